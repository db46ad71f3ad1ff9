// The stage in Chromium, with its time in the test's hands where that matters.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { CHROMIUM, chromium } from "./real/browsers.mjs";
import { missing, serveFiles } from "./real/server.mjs";

const PAGE = `<!doctype html><meta charset="utf-8"><div id="stage"></div>
<style>#stage { position: relative; width: 800px; height: 600px } canvas { position: absolute; width: 100%; height: 100% }</style>
<script type="module">
  import { createStage } from "/stage.js";
  window.make = (options) => (window.stage = createStage(document.getElementById("stage"), options));
  window.frame = (counts) => {
    const count = Object.keys(counts).reduce((sum, name) => sum + counts[name], 0);
    return { window: { start: 0, end: 2000 }, count, counts, slots: [count, 0, 0, 0], totals: counts };
  };
  window.isBlank = () => {
    const canvas = document.querySelector("canvas");
    return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.every((n) => n === 0);
  };
  window.hide = (isHidden) => {
    Object.defineProperty(document, "hidden", { configurable: true, value: isHidden });
    document.dispatchEvent(new Event("visibilitychange"));
  };
</script>`;

describe("the stage", { skip: missing(CHROMIUM) }, () => {
  let site, browser, page;

  before(async () => {
    const answer = (request, response) => response.writeHead(200, { "content-type": "text/html" }).end(PAGE);
    site = await serveFiles({ "/stage.html": answer });
    browser = await chromium();
    page = await browser.open(`${site.url}/stage.html`);
    await page.until("Boolean(window.make)");
  });
  after(async () => {
    if (browser) await browser.close();
    if (site) await site.stop();
  });

  async function clean() {
    await page.evaluate("stage.destroy()");
    assert.equal(await page.evaluate("document.getElementById('stage').children.length"), 0);
    assert.deepEqual(page.errors, []);
  }

  test("draws a frame, and rests when the last sprite has gone", async () => {
    await page.evaluate("void make().show(frame({ '🔥': 5, GOAL: 2 }))");
    await page.until("stage.stats.live > 0 && !isBlank()");
    await page.until("stage.stats.live === 0 && isBlank()");
    await clean();
  });

  test("draws nothing while the page is hidden, and goes on with the next frame", async () => {
    await page.evaluate("void make().show(frame({ '🔥': 9 }))");
    await page.until("stage.stats.live > 0");
    await page.evaluate("hide(true)");
    assert.deepEqual(await page.evaluate("[stage.stats.live, isBlank()]"), [0, true]);
    await page.evaluate("stage.show(frame({ '🔥': 9 })), stage.tap('🔥')");
    await page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
    assert.deepEqual(await page.evaluate("[stage.stats.live, isBlank()]"), [0, true]);
    await page.evaluate("hide(false), stage.show(frame({ '🔥': 9 }))");
    await page.until("stage.stats.live > 0 && !isBlank()");
    await clean();
  });

  test("shows fewer sprites when pictures come slowly, and more again when they come fast", async () => {
    await page.evaluate("window.time = 0, window.pace = 50, window.skip = () => { time += pace; requestAnimationFrame(skip) }, skip()");
    await page.evaluate("void make({ now: () => time })");
    const start = await page.evaluate("stage.stats.budget");
    const crowd = "stage.show(frame({ '🔥': 100000 })),";
    await page.until(`${crowd} stage.stats.budget < ${start} / 2`);
    assert.ok((await page.evaluate("stage.stats.budget")) >= 24);
    assert.ok(await page.evaluate("stage.stats.live <= 320"), "bounded");
    await page.evaluate("void (pace = 10)");
    await page.until(`${crowd} stage.stats.budget > ${start} / 2`);
    await page.evaluate("void (skip = () => {})");
    await clean();
  });

  test("a reaction with the name of an object's member asks for no picture; one of the catalogue is drawn", async () => {
    const asked = [];
    page.driver.on("request", (request) => asked.push(new URL(request.url()).pathname));
    await page.evaluate("void make({ pictures: { GOAL: '/pages/icon.svg' } })");
    await page.evaluate("stage.tap('constructor'), stage.tap('__proto__'), stage.tap('GOAL')");
    await page.until("stage.stats.live === 3 && !isBlank()");
    await page.until("performance.getEntriesByName(location.origin + '/pages/icon.svg').length === 1");
    assert.deepEqual(asked, ["/pages/icon.svg"]);
    await clean();
  });

  test("another skin shows the newest totals at once; an unknown one is the swarm", async () => {
    await page.evaluate("void make().show(frame({ '🔥': 9, constructor: 3 }))");
    await page.evaluate("void (stage.skin = 'bars')");
    assert.equal(await page.evaluate("document.querySelector('.uproar-bars').textContent"), "🔥9constructor3");
    await page.evaluate("stage.show({ count: 1, counts: { '🔥': 1 }, totals: { '🔥': 10, constructor: 3 } })");
    assert.deepEqual(await page.evaluate("[...document.querySelectorAll('.rises')].map((row) => row.textContent)"), ["🔥10"]);
    await page.evaluate("void (stage.skin = 'walls')");
    assert.equal(await page.evaluate("stage.skin"), "swarm");
    await clean();
  });

  test("less motion, asked for while it runs, ends the swarm", async () => {
    await page.evaluate("void make()");
    await page.driver.emulateMedia({ reducedMotion: "reduce" });
    await page.until("stage.skin === 'counters'");
    await page.driver.emulateMedia({ reducedMotion: "no-preference" });
    await page.until("stage.skin === 'swarm'");
    await clean();
  });
});
