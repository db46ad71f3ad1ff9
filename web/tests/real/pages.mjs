// The server and the browser of the tests of pages, and what they look for on a page.
import assert from "node:assert/strict";
import { after, afterEach, before, describe } from "node:test";
import { CHROMIUM, chromium } from "./browsers.mjs";
import { UPROAR, Uproar, missing, until } from "./server.mjs";

export const skip = missing(UPROAR, CHROMIUM);
export const PHONE = { viewport: { width: 390, height: 780 } };
/** Of the file that imports this. */
export let uproar;
let browser, opened;

before(async () => {
  if (skip) return;
  uproar = await Uproar.start();
  browser = await chromium();
});

after(async () => {
  if (browser) await browser.close();
  if (uproar) await uproar.stop();
});

/** Opens a page of Uproar (a path), or another one. */
export async function open(path, options) {
  const page = await browser.open(path.startsWith("/") ? uproar.url + path : path, options);
  opened.push(page);
  return page;
}

/** Opens the lobby with a clock that the test can move on, because its list is renewed only every few seconds. */
export async function openLobby() {
  const page = await open("about:blank");
  await page.driver.clock.install();
  await page.goto(uproar.url);
  return page;
}

/** Moves the lobby's clock to its next look at the list, until `expression` is true. */
export const untilRenewed = (page, expression) =>
  until(expression, async () => {
    await page.driver.clock.fastForward(5000);
    return page.evaluate(expression);
  });

/** A group of tests. No script of their pages may throw an error, or ask for anything that the page's policy refuses. */
export function pages(name, body) {
  describe(name, { skip }, () => {
    before(() => (opened = []));
    // A test that failed while the server was away must not fail the others.
    afterEach(() => uproar.hasEnded && uproar.run());
    after(async () => {
      for (const page of opened) {
        assert.deepEqual(page.errors, []);
        await page.driver.close();
      }
    });
    body();
  });
}

/* Expressions that are evaluated in a page. */
export const LIVE = "document.getElementById('state').textContent === 'live'";
export const ELEMENT = "document.querySelector('uproar-reactions')";
export const total = (n) => `document.getElementById('total').textContent === '${n}'`;
/** The element with the focus, also inside the custom element. */
export const FOCUSED = `(() => {
  let found = document.activeElement;
  while (found.shadowRoot && found.shadowRoot.activeElement) found = found.shadowRoot.activeElement;
  return found;
})()`;

/** Taps one of the buttons. */
export const tap = (page, place) => page.driver.locator(".button").nth(place).click();
