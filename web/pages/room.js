// The viewer page: a room with its stage, its bar and its sums; or the busiest rooms, where the address names none.

import "../uproar-reactions.js";
import { createStage } from "../stage.js";

const ROOM_NAME = /^[A-Za-z0-9._~-]{1,64}$/;
/** The list of busy rooms is asked for this often, in ms. */
const ASK_EVERY_MS = 4000;

const STATES = {
  off: "offline",
  connecting: "connecting",
  live: "live",
  polling: "live, with a delay",
  away: "reconnecting",
  closed: "closed",
};

const part = id => document.getElementById(id);

function roomOfAddress() {
  const found = /^\/rooms\/([^/]+)\/?$/.exec(location.pathname);
  if (!found) return null;
  try {
    return decodeURIComponent(found[1]);
  } catch (error) {
    return found[1];
  }
}

function watch(name) {
  document.title = name + " · Uproar";
  part("room").textContent = name;
  part("watch").hidden = false;
  const element = document.createElement("uproar-reactions");
  element.setAttribute("room", name);
  element.setAttribute("skin", new URLSearchParams(location.search).get("skin") || "swarm");
  const sums = createStage(part("totals"), { skin: "bars", top: 10 });
  element.addEventListener("frame", event => showSums(event.detail, sums));
  element.addEventListener("state", event => showState(event.detail));
  part("live").appendChild(element);
}

function showSums(frame, sums) {
  sums.show(frame);
  part("total").textContent = frame.total.toLocaleString();
  const seconds = (frame.window.end - frame.window.start) / 1000;
  part("rate").textContent = Math.round(frame.count / seconds).toLocaleString();
  const viewers = part("viewers");
  viewers.hidden = frame.viewers === undefined;
  if (frame.viewers !== undefined) viewers.textContent = frame.viewers.toLocaleString() + " watching";
}

function showState({ state }) {
  part("state").dataset.state = state;
  part("state").textContent = STATES[state] || state;
}

function lobby(wrong) {
  part("lobby").hidden = false;
  part("state").hidden = true;
  if (wrong) {
    part("wrong").textContent = wrong;
    part("wrong").hidden = false;
  }
  part("enter").addEventListener("submit", event => {
    event.preventDefault();
    const name = part("name").value.trim() || "demo";
    if (!ROOM_NAME.test(name)) {
      part("wrong").textContent = "A room's name has 1 to 64 letters, digits, and . _ ~ -";
      part("wrong").hidden = false;
      return;
    }
    location.href = "/rooms/" + name;
  });
  ask();
}

async function ask() {
  try {
    const answer = await fetch("/v1/rooms?limit=12");
    if (answer.ok) showBusiest((await answer.json()).rooms);
  } catch (error) {
    // The server is away: the next look may find it.
  }
  setTimeout(ask, ASK_EVERY_MS * (0.8 + Math.random() * 0.4));
}

function showBusiest(rooms) {
  const list = part("busiest");
  part("quiet").hidden = rooms.length > 0;
  list.textContent = "";
  for (const room of rooms) {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = "/rooms/" + encodeURIComponent(room.room);
    const name = document.createElement("b");
    name.textContent = room.room;
    const top = document.createElement("span");
    top.className = "top";
    top.textContent = (room.top || []).join(" ");
    const count = document.createElement("span");
    count.className = "count";
    count.textContent = room.total.toLocaleString() + " reactions";
    for (const piece of [name, top, count]) link.appendChild(piece);
    item.appendChild(link);
    list.appendChild(item);
  }
}

const room = roomOfAddress();
if (room === null) lobby("");
else if (ROOM_NAME.test(room)) watch(room);
else lobby("“" + room + "” can't be a room: a name has 1 to 64 letters, digits, and . _ ~ -");
