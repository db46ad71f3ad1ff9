// Accessibility: axe-core finds nothing serious on any page, in both colour schemes.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { CHROMIUM, chromium } from "./real/browsers.mjs";
import { UPROAR, Uproar, missing, serveDesk, until } from "./real/server.mjs";

const axe = readFileSync(new URL("../node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const skip = missing(UPROAR, CHROMIUM);

describe("axe-core", { skip }, () => {
  let uproar, desk, browser;

  before(async () => {
    uproar = await Uproar.start();
    [desk, browser] = [await serveDesk(uproar), await chromium()];
    await uproar.post("final", { "🔥": 70, "👏": 20, GOAL: 3 });
    await until("it is counted", async () => (await uproar.total("final")) === 93);
  });
  after(async () => {
    if (browser) await browser.close();
    for (const one of [desk, uproar]) if (one) await one.stop();
  });

  const rows = "document.querySelectorAll('.uproar-list li').length === 3";
  const PAGES = {
    room: { path: "/rooms/final", ready: `${rows} && document.getElementById('state').textContent === 'live'` },
    phone: { path: "/rooms/final", ready: "document.getElementById('total').textContent === '93'", options: { viewport: { width: 390, height: 780 } } },
    calm: { path: "/rooms/final", ready: rows, options: { reducedMotion: "reduce" } },
    bars: { path: "/rooms/final?skin=bars", ready: rows },
    cards: { path: "/rooms/final?skin=cards", ready: rows },
    lobby: { path: "/", ready: "document.querySelector('#busiest a')" },
    wrong: { path: "/rooms/a%20b", ready: "!document.getElementById('wrong').hidden" },
    overlay: { path: "/overlay/final?skin=bars", ready: rows },
    "overlay with cards": { path: "/overlay/final?skin=cards", ready: rows },
    desk: { path: "/#final", ready: "document.querySelector('#room-chart canvas') && document.querySelector('#charts canvas')", isDesk: true },
  };

  for (const [name, { path, ready, options, isDesk }] of Object.entries(PAGES)) {
    test(name, async () => {
      const page = await browser.open((isDesk ? desk : uproar).url + path, { colorScheme: "dark", ...options });
      await page.until(ready);
      await page.evaluate(axe);
      for (const colorScheme of ["dark", "light"]) {
        await page.driver.emulateMedia({ colorScheme });
        // Colours that are on their way to others have no contrast to speak of.
        await page.until("document.getAnimations().every((one) => one.playState !== 'running')");
        const { violations } = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })");
        const told = violations.map(({ id, impact, nodes }) => ({ id, impact, nodes: nodes.map((node) => `${node.target} ${node.failureSummary}`) }));
        const serious = told.filter(({ impact }) => impact === "serious" || impact === "critical");
        if (process.env.AXE_ALL) console.log(name, colorScheme, JSON.stringify(told, null, 1));
        assert.deepEqual(serious, [], colorScheme);
      }
      await page.driver.close();
    });
  }
});
