// The last ten minutes of a room as bars: what the server remembers, and what came since.

const SVG = "http://www.w3.org/2000/svg";
const STEP_MS = 10000;
const BARS = 60;
/** Height of the drawing in its own units; a bar has one unit of width. */
const HEIGHT = 20;
/** The server is asked again this often, in ms. It knows windows whose frames were skipped. */
const ASK_EVERY_MS = 60000;

/** Draws the history of `room` into `figure`, which stays hidden while there is none. Returns what takes frames. */
export function createHistory(figure, room) {
  const chart = figure.querySelector("svg");
  const path = "/v1/rooms/" + encodeURIComponent(room) + "/history?step=" + STEP_MS;
  /** By start of a step: what the server remembers, and the sum of the frames that came. */
  let remembered = new Map();
  const seen = new Map();
  /** The server's time less ours, in ms. */
  let ahead = 0;

  const stepOf = time => Math.floor(time / STEP_MS) * STEP_MS;

  function draw() {
    const last = stepOf(Date.now() + ahead);
    const counts = [];
    for (let step = last - (BARS - 1) * STEP_MS; step <= last; step += STEP_MS) {
      // Both may lack windows, and none counts one twice.
      counts.push(Math.max(remembered.get(step) || 0, seen.get(step) || 0));
    }
    for (const step of seen.keys()) if (step <= last - BARS * STEP_MS) seen.delete(step);
    const most = Math.max(...counts);
    figure.hidden = most === 0;
    chart.textContent = "";
    chart.setAttribute("aria-label",
      "Reactions in the last ten minutes: at most " + most.toLocaleString() + " in ten seconds");
    counts.forEach((count, at) => {
      if (count === 0) return;
      const height = Math.max(0.5, HEIGHT * count / most);
      const bar = document.createElementNS(SVG, "rect");
      const shape = { x: at + 0.1, y: HEIGHT - height, width: 0.8, height };
      for (const name in shape) bar.setAttribute(name, shape[name]);
      chart.appendChild(bar);
    });
  }

  async function ask() {
    if (!document.hidden) await read().catch(() => {});
    setTimeout(ask, ASK_EVERY_MS * (0.8 + Math.random() * 0.4));
  }

  async function read() {
    // The steps of the answer begin with its range: whole steps of the clock.
    const to = stepOf(Date.now() + ahead) + STEP_MS;
    const answer = await fetch(path + "&from=" + (to - BARS * STEP_MS) + "&to=" + to);
    const date = Date.parse(answer.headers.get("date"));
    // The date has no ms.
    if (Math.abs(date - Date.now() - ahead) > 2000) ahead = date - Date.now();
    if (!answer.ok) return;
    remembered = new Map((await answer.json()).points.map(point => [stepOf(point.start), point.count]));
    draw();
  }

  function show(frame) {
    const step = stepOf(frame.window.start);
    seen.set(step, (seen.get(step) || 0) + frame.count);
    draw();
  }

  ask();
  return { show };
}
