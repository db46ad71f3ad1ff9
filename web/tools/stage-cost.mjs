// What the stage costs in headless Chromium with software rendering: `node tools/stage-cost.mjs [seconds] [reactions per window]`.
// It prints the load of the machine too, because figures of a busy machine say little about the stage.
import { loadavg } from "node:os";
import { chromium } from "../tests/real/browsers.mjs";
import { serveFiles } from "../tests/real/server.mjs";

const SECONDS = Number(process.argv[2] || 60);
const PER_WINDOW = Number(process.argv[3] || 20_000);
const SCREENS = {
  "desktop 1280x720": { viewport: { width: 1280, height: 720 } },
  "phone 390x780 @2": { viewport: { width: 390, height: 780 }, deviceScaleFactor: 2 },
};

const PAGE = `<!doctype html><meta charset="utf-8"><style>html, body, div { height: 100%; margin: 0 } div { position: relative; overflow: hidden }
.uproar-canvas { position: absolute; width: 100%; height: 100% }</style><div id="stage"></div><script type="module">
import { createStage } from "/stage.js";
const stage = createStage(document.getElementById("stage"));
const seen = (window.seen = { frames: 0, longest: 0, tasks: [], least: Infinity, most: 0, dropped: 0 });
new PerformanceObserver((list) => list.getEntries().forEach((one) => seen.tasks.push(Math.round(one.duration)))).observe({ type: "longtask" });
let before = 0;
requestAnimationFrame(function count(now) {
  if (before) seen.longest = Math.max(seen.longest, now - before);
  before = now;
  seen.frames += 1;
  seen.least = Math.min(seen.least, stage.stats.budget);
  seen.most = Math.max(seen.most, stage.stats.live);
  seen.dropped = stage.stats.dropped;
  requestAnimationFrame(count);
});
const names = ["🔥", "❤️", "👏", "😂", "😮", "😢", "🎉", "🏏", "GOAL", "👍"];
let seq = 0;
function show() {
  const counts = {};
  names.forEach((name, i) => (counts[name] = Math.round(${PER_WINDOW} * 0.5 ** (i + 1))));
  const quarter = ${PER_WINDOW} / 4;
  const end = Date.now();
  stage.show({ v: 1, room: "final", seq: ++seq, window: { start: end - 2000, end }, count: ${PER_WINDOW}, counts, slots: [quarter, quarter, quarter, quarter] });
}
show();
setInterval(show, 2000);
</script>`;

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const metrics = async (session) => {
  const found = await session.send("Performance.getMetrics");
  return Object.fromEntries(found.metrics.map(({ name, value }) => [name, value]));
};

const site = await serveFiles({
  "/cost.html": (request, response) => response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end(PAGE),
});
const browser = await chromium();
for (const [screen, options] of Object.entries(SCREENS)) {
  const page = await browser.open(`${site.url}/cost.html`, options);
  await page.until("window.seen && seen.most > 10");
  const session = await page.driver.context().newCDPSession(page.driver);
  await session.send("Performance.enable");
  // What the start cost is not what the stage costs.
  await page.evaluate("void Object.assign(seen, { frames: 0, longest: 0, tasks: [] })");
  const before = await metrics(session);
  await wait(SECONDS * 1000);
  const after = await metrics(session);
  const seen = await page.evaluate("seen");
  const seconds = after.Timestamp - before.Timestamp;
  const each = (name) => `${((1000 * (after[name] - before[name])) / seconds).toFixed(0)} ms/s`;
  const tasks = seen.tasks.filter((ms) => ms > 50).sort((a, b) => b - a);
  console.log(`${screen}: ${PER_WINDOW} reactions a window, ${seconds.toFixed(0)} s, load ${loadavg().map((n) => n.toFixed(1)).join(" ")}`);
  console.log(`  ${(seen.frames / seconds).toFixed(1)} pictures/s, longest gap ${seen.longest.toFixed(0)} ms`);
  console.log(`  main thread ${each("TaskDuration")}, of it scripts ${each("ScriptDuration")}`);
  console.log(`  tasks over 50 ms: ${tasks.length}${tasks.length ? ` (longest ${tasks[0]} ms)` : ""}`);
  console.log(`  most sprites ${seen.most}, least budget ${seen.least}, left out ${seen.dropped}`);
  await page.driver.close();
}
await browser.close();
await site.stop();
