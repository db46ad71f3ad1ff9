// The desk: what a producer and an operator look at during a match. It reads /metrics, /readyz and the frames. Orders are given in orders.js.

import { makeOrders } from "./orders.js";
import { parse, quantile, rate, rates, sum } from "./metrics.js";

/** A reading is taken this often, in ms, and kept for ten minutes. */
const READ_EVERY_MS = 2000;
const POINTS_MAX = 300;
const ROOMS_MAX = 50;
const LINES = ["#ff5c39", "#4fa8ff", "#41d88b", "#f2b632", "#c77dff", "#ff7eb6", "#6fe3e1", "#b5bcd6", "#d4e157", "#a1887f"];

const part = id => document.getElementById(id);
/** A reaction may have the name of an object's member, such as "constructor". */
const dict = () => Object.create(null);

/** Numbers as people read them: 1,234, 56.7k, 8.9M. */
function short(value, unit) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const [scaled, suffix] = value >= 1e6 ? [value / 1e6, "M"] : value >= 1e4 ? [value / 1e3, "k"] : [value, ""];
  const digits = suffix || (scaled < 10 && scaled % 1) ? 1 : 0;
  return scaled.toLocaleString(undefined, { maximumFractionDigits: digits }) + suffix + (unit || "");
}

const ms = seconds => (seconds === null ? null : seconds * 1000);

/** The charts. Each gives its lines of a moment as {name: value}, or null where this process has nothing to say. */
const CHARTS = [
  {
    title: "Reactions each second",
    lines: (a, b) => ({
      accepted: rate(a, b, "uproar_ingest_accepted_total"),
      counted: rate(a, b, "uproar_aggregator_reactions_total"),
    }),
  },
  {
    title: "Posts refused each second, by cause",
    lines: (a, b) => (sum(b, "uproar_ingest_refused_total") === null ? {} : rates(a, b, "uproar_ingest_refused_total", "cause")),
    empty: "Nothing was refused.",
  },
  {
    title: "A post, until its reactions are durable (ms)",
    lines: (a, b) => ({
      "p50": ms(quantile(a, b, "uproar_ingest_commit_seconds", 0.5)),
      "p99": ms(quantile(a, b, "uproar_ingest_commit_seconds", 0.99)),
    }),
  },
  {
    title: "A window, from its end until it is committed (ms)",
    lines: (a, b) => ({
      "p50": ms(quantile(a, b, "uproar_aggregator_window_delay_seconds", 0.5)),
      "p99": ms(quantile(a, b, "uproar_aggregator_window_delay_seconds", 0.99)),
    }),
  },
  {
    title: "Frames each second",
    lines: (a, b) => ({
      delivered: rate(a, b, "uproar_fanout_deliveries_total"),
      skipped: rate(a, b, "uproar_fanout_frames_skipped_total", { protocol: /sse|websocket|mqtt/ }),
    }),
  },
  {
    title: "Viewers, by protocol",
    lines: (a, b) => {
      const lines = dict();
      for (const one of b.values.get("uproar_fanout_viewers") || []) lines[one.labels.protocol] = one.value;
      return lines;
    },
  },
];

const CARDS = [
  ["Accepted", "/s", (a, b) => rate(a, b, "uproar_ingest_accepted_total")],
  ["Counted", "/s", (a, b) => rate(a, b, "uproar_aggregator_reactions_total")],
  ["Refused", "% of posts", refusedShare],
  ["Viewers", "", (a, b) => sum(b, "uproar_fanout_viewers")],
  ["Frames delivered", "/s", (a, b) => rate(a, b, "uproar_fanout_deliveries_total")],
  ["Window delay p99", " ms", (a, b) => ms(quantile(a, b, "uproar_aggregator_window_delay_seconds", 0.99))],
];

function refusedShare(a, b) {
  const all = rate(a, b, "uproar_ingest_requests_total");
  if (all === null) return null;
  return all ? (100 * rate(a, b, "uproar_ingest_refused_total")) / all : 0;
}

/** Posts each second and the share of refused ones, between two readings. */
function postFacts(a, b) {
  const [accepted, refused] = [b.accepted - a.accepted, b.refused - a.refused];
  // The process was started again, or began to count anew.
  if (accepted < 0 || refused < 0) return "";
  const all = accepted + refused;
  const share = all ? (100 * refused) / all : 0;
  return short((all * 1000) / (b.at - a.at)) + " posts a second · " + short(share) + "% of them refused";
}

/** A chart of the last ten minutes whose lines may come and go. */
function chart(element, height) {
  let plot = null;
  let names = [];
  const times = [];
  const columns = new Map();

  function build() {
    if (plot) plot.destroy();
    const dark = !matchMedia("(prefers-color-scheme: light)").matches;
    const ink = dark ? "#a2abc8" : "#5a6280";
    const axis = { stroke: ink, grid: { stroke: dark ? "#ffffff14" : "#00000012", width: 1 }, ticks: { show: false } };
    const series = names.map((name, i) => ({
      label: name,
      stroke: LINES[i % LINES.length],
      width: 2,
      points: { show: false },
      value: (u, value) => short(value),
    }));
    const values = (u, marks) => marks.map(mark => short(mark));
    plot = new uPlot(
      {
        width: element.clientWidth,
        height,
        series: [{ label: "time" }].concat(series),
        axes: [axis, Object.assign({ size: 54, values }, axis)],
        scales: { y: { range: (u, least, most) => [0, Math.max(1, most * 1.1)] } },
        legend: { live: true },
        cursor: { drag: { x: false, y: false } },
      },
      data(),
      element
    );
  }

  function data() {
    return [times].concat(names.map(name => columns.get(name)));
  }

  function size() {
    if (plot && element.clientWidth) plot.setSize({ width: element.clientWidth, height });
  }
  window.addEventListener("resize", size);

  return {
    /** Adds a moment: seconds since the epoch, and {name: value or null}. */
    add(at, lines) {
      for (const name of Object.keys(lines)) if (!columns.has(name)) columns.set(name, times.map(() => null));
      times.push(at);
      for (const [name, column] of columns) column.push(lines[name] === undefined ? null : lines[name]);
      if (times.length > POINTS_MAX) for (const column of [times, ...columns.values()]) column.shift();
      for (const [name, column] of columns) if (column.every(value => value === null)) columns.delete(name);
      const wanted = [...columns.keys()];
      if (!plot || wanted.join("\n") !== names.join("\n")) {
        names = wanted;
        build();
      } else {
        plot.setData(data());
      }
      // Without a pointer in the chart the legend tells the newest values.
      if (plot.cursor.left === undefined || plot.cursor.left < 0) plot.setLegend({ idx: times.length - 1 });
    },
    clear() {
      times.length = 0;
      columns.clear();
      names = [];
      if (plot) plot.destroy();
      plot = null;
    },
  };
}

function makeCards() {
  return CARDS.map(([title, unit, value]) => {
    const card = document.createElement("div");
    const name = document.createElement("h2");
    const number = document.createElement("p");
    name.textContent = title;
    number.textContent = "–";
    card.appendChild(name);
    card.appendChild(number);
    part("cards").appendChild(card);
    return (a, b) => {
      const now = value(a, b);
      card.hidden = now === null && !b.values.has("uproar_fanout_viewers") && title !== "Accepted";
      number.textContent = short(now) + (now === null ? "" : unit);
    };
  });
}

function makeCharts() {
  return CHARTS.map(({ title, lines, empty }) => {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const body = document.createElement("div");
    const words = document.createElement("p");
    caption.textContent = title;
    words.className = "dim";
    words.textContent = empty || "Nothing to show yet.";
    body.className = "chart";
    for (const piece of [caption, words, body]) figure.appendChild(piece);
    part("charts").appendChild(figure);
    const drawn = chart(body, 190);
    let has = false;
    return (a, b) => {
      const values = lines(a, b);
      has = has || Object.keys(values).some(name => values[name] !== null);
      words.hidden = has;
      if (has) drawn.add(b.at / 1000, values);
    };
  });
}

function roomOfAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch (error) {
    return "";
  }
}

/** The rooms by activity, and the one that was chosen. */
function makeRooms() {
  const drawn = chart(part("room-chart"), 230);
  let chosen = roomOfAddress();
  let lastSeq = 0;
  let posts = null;
  const showOrders = makeOrders();
  showOrders(chosen);

  function choose(name) {
    chosen = name;
    showOrders(name);
    lastSeq = 0;
    posts = null;
    location.hash = encodeURIComponent(name);
    drawn.clear();
    part("room-name").textContent = name;
    part("room-facts").textContent = "";
    part("room-posts").textContent = "";
    attempt(follow);
  }

  function cell(row, text, tag) {
    const made = document.createElement(tag || "td");
    made.textContent = text;
    row.appendChild(made);
    return made;
  }

  function list(rooms) {
    const body = part("rooms").tBodies[0];
    part("rooms").hidden = !rooms.length;
    part("no-rooms").hidden = rooms.length > 0;
    const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.room : null;
    body.textContent = "";
    for (const room of rooms) {
      const row = document.createElement("tr");
      row.classList.toggle("chosen", room.room === chosen);
      const name = cell(row, "", "th");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = room.room;
      button.dataset.room = room.room;
      button.addEventListener("click", () => choose(room.room));
      name.scope = "row";
      name.appendChild(button);
      cell(row, short(room.count));
      cell(row, short(room.total));
      cell(row, room.viewers === undefined ? "–" : short(room.viewers));
      body.appendChild(row);
      if (room.room === focused) button.focus();
    }
    if (!chosen && rooms.length) choose(rooms[0].room);
  }

  async function follow() {
    const asked = chosen;
    if (!asked) return;
    const answer = await fetch("/v1/rooms/" + encodeURIComponent(asked));
    if (!answer.ok) return;
    const frame = await answer.json();
    // Another room may have been chosen meanwhile.
    if (asked !== chosen) return;
    part("room-name").textContent = frame.room;
    const seconds = (frame.window.end - frame.window.start) / 1000;
    const isOld = Date.now() - frame.window.end > 3 * (frame.window.end - frame.window.start);
    part("room-facts").textContent = [
      short(frame.total) + " reactions so far",
      short(isOld ? 0 : frame.count / seconds) + " a second now",
      frame.viewers === undefined ? "" : short(frame.viewers) + " watching",
      frame.state === "closed" ? "closed" : "",
    ].filter(Boolean).join(" · ");
    const [lines, counts] = [dict(), Object.assign(dict(), frame.counts)];
    for (const name of Object.keys(frame.totals)) lines[name] = isOld ? 0 : (counts[name] || 0) / seconds;
    if (frame.seq !== lastSeq || isOld) drawn.add(Date.now() / 1000, lines);
    lastSeq = frame.seq;
  }

  /** Posts of the room at this process. A process without ingest knows none. */
  async function askPosts() {
    const asked = chosen;
    if (!asked) return;
    const answer = await fetch("/v1/rooms/" + encodeURIComponent(asked) + "/posts");
    const now = answer.ok ? Object.assign(await answer.json(), { at: Date.now() }) : null;
    if (asked !== chosen) return;
    part("room-posts").textContent = now && posts ? postFacts(posts, now) : "";
    posts = now;
  }

  return async function look() {
    const answer = await fetch("/v1/rooms?limit=" + ROOMS_MAX);
    if (answer.status === 404) {
      part("no-rooms").textContent = "This process has no viewers' edge: the desk of a fanout process shows the rooms.";
      return;
    }
    list((await answer.json()).rooms);
    await follow();
    await askPosts();
  };
}

async function askReady() {
  const answer = await fetch("/readyz");
  const text = await answer.text();
  part("ready").dataset.ready = String(answer.ok);
  part("ready").textContent = answer.ok ? "ready" : "not ready";
  const reasons = answer.ok ? [] : text.trim().split("\n");
  part("reasons").hidden = !reasons.length;
  part("reasons").textContent = "";
  for (const reason of reasons) {
    const item = document.createElement("li");
    item.textContent = reason;
    part("reasons").appendChild(item);
  }
}

async function askConfig() {
  const answer = await fetch("/admin/v1/config");
  if (answer.ok) part("config").textContent = await answer.text();
  else part("configuration").hidden = true;
}

/** Runs a question, and shows when nobody answers. */
async function attempt(question) {
  try {
    await question();
    return true;
  } catch (error) {
    part("ready").dataset.ready = "away";
    part("ready").textContent = "no answer";
    return false;
  }
}

function showBuild(reading) {
  const build = (reading.values.get("uproar_build_info") || [])[0];
  if (build) part("build").textContent = [build.labels.role, build.labels.version, build.labels.commit].filter(Boolean).join(" ");
}

function start() {
  const [cards, charts, rooms] = [makeCards(), makeCharts(), makeRooms()];
  let before = null;

  async function read() {
    const text = await (await fetch("/metrics")).text();
    const now = parse(text, Date.now());
    if (before) for (const show of [...cards, ...charts]) show(before, now);
    showBuild(now);
    before = now;
  }

  async function turn() {
    if (!document.hidden) for (const question of [askReady, read, rooms]) if (!(await attempt(question))) break;
    setTimeout(turn, READ_EVERY_MS);
  }

  attempt(askConfig);
  turn();
}

start();
