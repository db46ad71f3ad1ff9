// PNG pictures of all pages with a crowd on them, to be looked at: `node tools/screenshots.mjs DIRECTORY`.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "../tests/real/browsers.mjs";
import { Uproar, serveDesk, until } from "../tests/real/server.mjs";
import { crowd } from "./crowd.mjs";

const dir = process.argv[2];
if (!dir) throw new Error("usage: node tools/screenshots.mjs DIRECTORY");
mkdirSync(dir, { recursive: true });

const uproar = await Uproar.start({ "aggregator.interval_ms": 2000 });
const [desk, browser] = [await serveDesk(uproar), await chromium()];
const people = [crowd(uproar, "ind-pak-final", { seed: 1, perSecond: 900 }), crowd(uproar, "studio", { seed: 2, perSecond: 40 })];

const phone = { viewport: { width: 390, height: 780 }, deviceScaleFactor: 2 };
const desktop = { viewport: { width: 1280, height: 800 } };
const dark = { colorScheme: "dark" };
const light = { colorScheme: "light" };
const ROOM = `${uproar.url}/rooms/ind-pak-final`;
const AIR = `${uproar.url}/overlay/ind-pak-final`;
const SHOTS = [
  ["phone", ROOM, { ...phone, ...dark }],
  ["phone-light", ROOM, { ...phone, ...light }],
  ["desktop", ROOM, { ...desktop, ...dark }],
  ["desktop-light", ROOM, { ...desktop, ...light }],
  ["cards", `${ROOM}?skin=cards`, { ...desktop, ...dark }],
  ["lobby", uproar.url, { ...desktop, ...dark }],
  ["overlay", AIR, desktop],
  ["overlay-bars", `${AIR}?skin=bars`, desktop],
  ["overlay-counters", `${AIR}?skin=counters&scale=1.5`, desktop],
  ["desk", `${desk.url}/#ind-pak-final`, { ...desktop, ...dark }],
  ["desk-light", `${desk.url}/#ind-pak-final`, { ...desktop, ...light }],
];

await until("the crowd is counted", async () => (await uproar.total("ind-pak-final")) > 5000);
const pages = await Promise.all(SHOTS.map(([, url, options]) => browser.open(url, options)));
// Frames of several windows, so that swarms and charts are full.
const seen = await uproar.total("ind-pak-final");
await until("more windows are shown", async () => (await uproar.total("ind-pak-final")) > seen + 8000);
for (const [i, [name]] of SHOTS.entries()) {
  await pages[i].driver.bringToFront();
  await pages[i].driver.screenshot({ path: join(dir, `${name}.png`), fullPage: name.startsWith("desk") && !name.startsWith("desktop") });
}
for (const one of people) one.stop();
await browser.close();
await desk.stop();
await uproar.stop();
