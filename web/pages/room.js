// The viewer page: a room with its stage, its bar and its sums; or the busiest rooms, where the address names none.

import "../uproar-reactions.js";
import { createStage } from "../stage.js";
import { createHistory } from "./history.js";

/** Browsers take "." and ".." out of an address. */
const ROOM_NAME = /^(?!\.\.?$)[A-Za-z0-9._~-]{1,64}$/;
const RULE = "a name has 1 to 64 letters, digits, and . _ ~ -";
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

/** What was told last of the connection, and of the room. */
let connection = "off";
let isClosed = false;

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
  const history = createHistory(part("history"), name);
  element.addEventListener("frame", event => {
    showSums(event.detail, sums);
    history.show(event.detail);
  });
  element.addEventListener("state", event => showState(event.detail));
  part("live").appendChild(element);
}

function showSums(frame, sums) {
  sums.show(frame);
  part("total").textContent = frame.total.toLocaleString();
  const seconds = (frame.window.end - frame.window.start) / 1000;
  part("rate").textContent = Math.round(seconds ? frame.count / seconds : 0).toLocaleString();
  isClosed = frame.state === "closed";
  showState({ state: connection });
  const viewers = part("viewers");
  viewers.hidden = frame.viewers === undefined;
  if (frame.viewers !== undefined) viewers.textContent = frame.viewers.toLocaleString() + " watching";
}

function showState({ state }) {
  connection = state;
  // A room that is closed looks so while its frames come.
  if (isClosed && (state === "live" || state === "polling")) state = "closed";
  part("state").hidden = false;
  part("state").dataset.state = state;
  part("state").textContent = STATES[state] || state;
}

function showWrong(name) {
  part("wrong").textContent = "“" + name + "” can't be a room: " + RULE;
  part("wrong").hidden = false;
}

function lobby() {
  part("lobby").hidden = false;
  part("room").hidden = true;
  part("state").hidden = true;
  part("enter").addEventListener("submit", event => {
    event.preventDefault();
    const name = part("name").value.trim() || "demo";
    if (!ROOM_NAME.test(name)) {
      showWrong(name);
      return;
    }
    location.href = "/rooms/" + name;
  });
  ask();
}

async function ask() {
  if (!document.hidden) await showAnswer().catch(() => showState({ state: "away" }));
  setTimeout(ask, ASK_EVERY_MS * (0.8 + Math.random() * 0.4));
}

async function showAnswer() {
  const answer = await fetch("/v1/rooms?limit=12");
  if (answer.status >= 500) throw new Error(answer.statusText);
  // An operator may keep the list to himself (fanout.list_rooms).
  part("busy").hidden = !answer.ok;
  if (answer.ok) showBusiest((await answer.json()).rooms);
  part("state").hidden = true;
}

function showBusiest(rooms) {
  const list = part("busiest");
  part("quiet").hidden = rooms.length > 0;
  const focused = list.contains(document.activeElement) ? document.activeElement.href : null;
  list.textContent = "";
  for (const room of rooms) {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = "/rooms/" + encodeURIComponent(room.room);
    const name = document.createElement("b");
    name.textContent = room.room;
    const top = document.createElement("span");
    top.className = "top";
    for (const reaction of room.top || []) {
      // A reaction of a right-to-left script must not turn those next to it around.
      const isolated = document.createElement("bdi");
      isolated.textContent = reaction;
      top.appendChild(isolated);
    }
    const count = document.createElement("span");
    count.className = "count";
    count.textContent = room.total.toLocaleString() + (room.total === 1 ? " reaction" : " reactions");
    for (const piece of [name, top, count]) link.appendChild(piece);
    item.appendChild(link);
    list.appendChild(item);
    if (link.href === focused) link.focus();
  }
}

const room = roomOfAddress();
if (room !== null && ROOM_NAME.test(room)) watch(room);
else lobby();
if (room !== null && !ROOM_NAME.test(room)) showWrong(room);
