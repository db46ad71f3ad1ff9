// uproar.js in real browsers against the real binary. The page comes from another origin than Uproar.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { CHROMIUM, FIREFOX, chromium, firefox } from "./real/browsers.mjs";
import { UPROAR, Uproar, missing, serveFiles, serveProxy, until } from "./real/server.mjs";

let uproar, files, proxy;

before(async () => {
  if (missing(UPROAR)) return;
  uproar = await Uproar.start();
  files = await serveFiles();
  proxy = await serveProxy(uproar.port);
});

after(async () => {
  await Promise.all([uproar, files, proxy].map((one) => one && one.stop()));
});

const page = (room, server = uproar.url, more = "") =>
  `${files.url}/tests/fixtures/page.html?room=${room}&server=${encodeURIComponent(server)}${more}`;

for (const [name, program, launch] of [["Chromium", CHROMIUM, chromium], ["Firefox", FIREFOX, firefox]]) {
  describe(name, { skip: missing(UPROAR, program) }, () => {
    let browser;
    before(async () => (browser = await launch()));
    after(() => browser && browser.close());
    const room = (what) => `${what}-${name}`;

    test("a tap in one page raises the total in two", async () => {
      const [one, other] = [await browser.open(page(room("taps"))), await browser.open(page(room("taps")))];
      await one.until("room.state === 'live'");
      await other.until("room.state === 'live'");
      assert.equal(await one.evaluate("room.react('❤️', 2) && room.react('👍🏽')"), true);
      assert.equal(await one.evaluate("room.mine['❤']"), 2, "at once");
      await one.until("window.seen.frame && seen.frame.total === 3");
      await other.until("window.seen.frame && seen.frame.total === 3");
      await one.until("Object.keys(room.mine).length === 0");
      assert.equal(await one.evaluate("room.display('👍')"), "👍🏽");
    });

    test("the server is killed and started again: the page recovers without a reload", async () => {
      const open = await browser.open(page(room("kill")));
      await open.until("room.state === 'live' && room.react('🔥')");
      await open.until("window.seen.frame && seen.frame.total === 1");
      await uproar.end("SIGKILL");
      await open.until("room.state === 'away'");
      await uproar.run();
      await open.until("room.state === 'live'");
      await open.evaluate("room.react('🔥', 4)");
      await open.until("seen.frame.total === 5");
      const totals = await open.evaluate("seen.totals");
      assert.deepEqual(totals, [...totals].sort((a, b) => a - b), "totals never go back");
    });

    test("sockets are refused: events; events are refused: polling; later a socket again", async () => {
      proxy.refused.add("socket");
      const first = await browser.open(page(room("events"), proxy.url));
      await first.until("room.state === 'live' && room.react('🔥')");
      await first.until("window.seen.frame && seen.frame.total === 1");
      assert.ok(proxy.seen.events > 0);
      proxy.refused.add("events");
      const second = await browser.open(page(room("polling"), proxy.url));
      await second.until("room.state === 'polling' && room.react('🔥')");
      await second.until("window.seen.frame && seen.frame.total === 1");
      proxy.refused.clear();
      const sockets = proxy.seen.socket;
      await second.evaluate("void (room._receiver.trial = room._receiver.attempt(0))");
      await second.until("room.state === 'live'");
      assert.equal(proxy.seen.socket, sockets + 1);
    });

    test("a server that leaves in order says so, and the page comes back", async () => {
      const open = await browser.open(page(room("leave")));
      await open.until("room.state === 'live'");
      await uproar.end("SIGTERM");
      await open.until("seen.states.some(([state, code]) => state === 'away' && code === 1012)");
      await uproar.run();
      await open.until("room.state === 'live'");
    });

    test("taps that are pending arrive although the page is left", async () => {
      const open = await browser.open(page(room("beacon")));
      await open.until("room.react('🔥', 3)");
      await open.goto(`${files.url}/tests/fixtures/page.html?room=other&server=${uproar.url}`);
      await until("the taps are counted", async () => (await uproar.total(room("beacon"))) === 3);
    });

    const reloads = name === "Firefox" && "Firefox loads a page again that had a socket";
    test("a page that comes back from the back/forward cache goes on", { skip: reloads }, async () => {
      const open = await browser.open(page(room("back")));
      await open.until("room.state === 'live' && (window.marker = 'not loaded again')");
      await open.goto(page(room("elsewhere")));
      await open.until("room.state === 'live' && !window.marker");
      await open.evaluate("void setTimeout(() => history.back())");
      await open.until("window.marker && room.state === 'live' && seen.states.some(([state]) => state === 'away')");
      await open.evaluate("room.react('🔥')");
      await open.until("window.seen.frame && seen.frame.total === 1");
    });

    const lacksCodec = name === "Firefox" && "Firefox decodes H.264 only where libavcodec is installed";
    test("spoiler-safe: frames keep to a stream that is behind", { skip: lacksCodec }, async () => {
      const query = `room=${room("sync")}&behind_ms=3000&server=${encodeURIComponent(uproar.url)}`;
      const open = await browser.open(`${files.url}/tests/fixtures/sync.html?${query}`);
      await open.until("window.hls && hls.playingDate && video.currentTime > 0.5 && ahead.state === 'live'");
      await open.evaluate("react.click()");
      await open.until("seen.synced.some((frame) => frame.total === 1)");
      const { ahead, synced, errors } = await open.evaluate("seen");
      assert.deepEqual(errors, []);
      const [first, then] = [ahead, synced].map((frames) => frames.find((frame) => frame.total === 1));
      assert.ok(first.media < first.end, "without sync it is a spoiler");
      assert.ok(then.media >= then.end, "never before the player is there");
      assert.ok(then.media - then.end < 1000, `${then.media - then.end} ms after`);
      assert.ok(then.at - first.at > 2000, `${then.at - first.at} ms later than without sync`);
      assert.equal(await open.evaluate("document.getElementById('synced').textContent"), "1");
    });

    test("the classic script does the same", async () => {
      const open = await browser.open(page(room("classic"), uproar.url, "&classic"));
      await open.until("room.react('🔥')");
      await open.until("window.seen.frame && seen.frame.total === 1");
    });
  });
}
