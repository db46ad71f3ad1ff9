// A page that is hidden, frozen, left and seen again. The numbers are bug reports of phoenixframework/phoenix.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { uproar } from "../uproar.js";
import { browser, frame, install, options, watch } from "./harness.mjs";

install();
beforeEach(() => browser.reset());

/** A room with an open socket. */
function live(extra) {
  const seen = watch(uproar, extra);
  browser.socket.hello();
  return seen;
}

test("phoenix #6534: a page that is hidden does not reconnect, one that is seen again does at once", async () => {
  const seen = live();
  await browser.advance(20000);
  browser.hide();
  browser.socket.drop(); // a phone that sleeps loses its sockets
  assert.deepEqual(seen.states[2], { state: "away", code: 0, reason: "hidden" });
  await browser.advance(3600000);
  assert.equal(browser.sockets.length, 1);
  assert.equal(browser.gets.length, 0);
  browser.show();
  await browser.advance(1000);
  assert.equal(browser.sockets.length, 2);
});

test("phoenix #6534: a wait for the next try ends when the page is hidden", async () => {
  live();
  browser.socket.drop();
  browser.hide();
  await browser.advance(600000);
  assert.equal(browser.sockets.length, 1);
});

test("phoenix #6534: a try that hangs since the page was hidden begins again when it is seen", async () => {
  watch(uproar);
  browser.hide();
  await browser.advance(3000);
  assert.equal(browser.socket.isOpen, true);
  browser.show();
  assert.equal(browser.socket.isOpen, false);
  await browser.advance(1000);
  assert.equal(browser.sockets.length, 2);
});

for (const number of ["#6578", "#6583"]) {
  test(`phoenix ${number}: a room that the app closed stays closed, whatever the page does`, async () => {
    const seen = live();
    seen.room.close();
    assert.deepEqual(seen.states[2], { state: "closed", code: 0, reason: "closed by the app" });
    browser.hide();
    await browser.advance(60000);
    browser.show();
    ["focus", "pageshow", "online"].forEach((type) => browser.fire(type));
    browser.page.dispatchEvent(new Event("resume"));
    seen.room.mute(false);
    seen.room.on("frame", () => {});
    await browser.advance(600000);
    assert.equal(browser.sockets.length, 1);
    assert.equal(browser.gets.length, 0);
    assert.equal(seen.room.state, "closed");
  });
}

test("a room is closed once, and tells it once", () => {
  const [byApp, byServer] = [live(), live()];
  byApp.room.close();
  browser.socket.drop(1008, "no");
  [byApp, byServer].forEach(({ room }) => [1, 2].forEach(() => room.close()));
  assert.deepEqual(byApp.states.slice(2), [{ state: "closed", code: 0, reason: "closed by the app" }]);
  assert.deepEqual(byServer.states.slice(2), [{ state: "closed", code: 1008, reason: "no" }]);
});

test("phoenix #6578: a room that is closed while hidden stays closed", async () => {
  const seen = live();
  browser.hide();
  await browser.advance(31000);
  seen.room.close();
  browser.show();
  await browser.advance(600000);
  assert.equal(browser.sockets.length, 1);
});

test("phoenix #6620: a room that was never connected does not connect when the page is seen", async () => {
  const room = uproar("https://live.example.com", options()).room("final");
  browser.hide();
  await browser.advance(60000);
  browser.show();
  ["focus", "pageshow", "online"].forEach((type) => browser.fire(type));
  await browser.advance(60000);
  assert.equal(browser.sockets.length, 0);
  assert.equal(browser.gets.length, 0);
  assert.equal(room.state, "off");
});

test("phoenix #6620: nor does one whose listeners are gone, or that is muted", async () => {
  const [gone, muted] = [live(), live()];
  gone.off();
  muted.room.mute();
  browser.hide();
  await browser.advance(60000);
  browser.show();
  await browser.advance(60000);
  assert.equal(browser.sockets.length, 2);
});

for (const [type, target] of [["focus", "window"], ["pageshow", "window"], ["resume", "page"]]) {
  test(`phoenix #6804: without visibilitychange, ${type} brings the room back`, async () => {
    live();
    browser.hide();
    await browser.advance(40000);
    browser.page.hidden = false; // and no event says so
    browser[target].dispatchEvent(new Event(type));
    await browser.advance(1000);
    assert.equal(browser.sockets.length, 2);
    browser.socket.hello();
  });
}

test("phoenix #6804: a page that has focus is visible, even if the browser still calls it hidden", async () => {
  live();
  browser.hide();
  await browser.advance(40000);
  browser.page.focused = true;
  browser.fire("focus");
  await browser.advance(1000);
  assert.equal(browser.sockets.length, 2);
});

test("phoenix #6804: a page that was frozen drops its socket, because it may be dead", async () => {
  const seen = live();
  browser.hide();
  await browser.advance(1000);
  browser.clock.freeze(300000); // no timer ran
  browser.show();
  assert.equal(browser.sockets[0].isOpen, false);
  await browser.advance(1000);
  assert.equal(browser.sockets.length, 2);
  browser.socket.hello();
  assert.equal(seen.room.state, "live");
});

test("phoenix #6804: without any event, the room looks for itself", async () => {
  const seen = live();
  browser.hide();
  await browser.advance(300000);
  assert.equal(browser.sockets.length, 1);
  browser.page.dispatchEvent(new Event("resume")); // still hidden
  browser.page.hidden = false; // and no event says so
  await browser.advance(10000);
  assert.equal(browser.sockets.length, 2);
  browser.socket.hello();
  browser.fire("focus");
  await browser.advance(60000);
  assert.equal(browser.sockets.length, 2, "a late event does not disturb it");
  assert.equal(seen.room.state, "live");
});

test("phoenix #6804: a tap brings a room back, too", async () => {
  const seen = live();
  browser.hide();
  await browser.advance(40000);
  browser.page.hidden = false;
  seen.room.react("🔥");
  await browser.advance(1000);
  assert.equal(browser.sockets.length, 2);
});

test("phoenix #6103: a page that comes back from the back/forward cache connects again", async () => {
  const seen = live();
  browser.fire("pagehide");
  assert.equal(browser.socket.isOpen, false);
  assert.equal(seen.room.state, "away");
  browser.clock.freeze(5000);
  browser.fire("pageshow");
  await browser.advance(1000);
  assert.equal(browser.sockets.length, 2);
});

test("hidden for 30 s closes the socket, and the return asks for one snapshot", async () => {
  const seen = live();
  browser.hide();
  await browser.advance(29000);
  assert.equal(browser.socket.isOpen, true);
  await browser.advance(1000);
  assert.equal(browser.socket.isOpen, false);
  assert.deepEqual(seen.states[2], { state: "away", code: 0, reason: "hidden" });
  browser.onGet = () => ({ status: 200, body: frame() });
  browser.show();
  await browser.advance(100);
  assert.equal(seen.frames.length, 1);
  await browser.advance(1000);
  browser.socket.hello();
  assert.equal(browser.gets.length, 1);
  assert.equal(browser.sockets.length, 2);
  assert.equal(seen.room.state, "live");
});

test("hidden for less than 30 s changes nothing", async () => {
  live();
  for (let times = 0; times < 10; times++) {
    browser.hide();
    await browser.advance(20000);
    browser.show();
    await browser.advance(5000);
  }
  assert.equal(browser.sockets.length, 1);
  assert.equal(browser.gets.length, 0);
});

test("a page that is opened hidden connects when it is seen", async () => {
  browser.page.hidden = true;
  const seen = watch(uproar);
  assert.equal(seen.room.state, "away");
  await browser.advance(60000);
  assert.equal(browser.sockets.length, 0);
  browser.show();
  await browser.advance(1000);
  assert.equal(browser.sockets.length, 1);
});

test("becoming visible and online are jittered", async () => {
  for (const way of ["show", "online"]) {
    const waits = [];
    for (const random of [0, 0.3, 0.6, 0.999]) {
      browser.reset();
      live({ random: () => random });
      if (way === "show") {
        browser.hide();
        await browser.advance(31000);
        browser.show();
      } else {
        browser.socket.drop();
        browser.fire("online");
      }
      const from = browser.clock.now;
      while (browser.sockets.length === 1) await browser.advance(1);
      waits.push(browser.clock.now - from);
    }
    assert.equal(new Set(waits).size, 4, String(waits));
    waits.forEach((wait) => assert.ok(wait <= 1000, String(waits)));
  }
});

test("online ends a long wait", async () => {
  browser.onGet = () => new Error("offline");
  watch(uproar, { random: () => 0.999 });
  for (const wait of [5000, 10000, 20000, 40000]) {
    browser.socket.drop();
    await browser.advance(wait);
  }
  browser.socket.drop();
  await browser.advance(1000);
  const sockets = browser.sockets.length;
  browser.fire("online");
  await browser.advance(1000);
  assert.equal(browser.sockets.length, sockets + 1);
});

test("a fallback is not left for the socket while hidden", async () => {
  const seen = live();
  browser.onGet = () => ({ status: 200, body: frame() });
  browser.socket.drop(1013);
  await browser.advance(1000);
  assert.equal(seen.room.state, "polling");
  browser.hide();
  await browser.advance(600000);
  assert.equal(browser.sockets.length, 1);
  const gets = browser.gets.length;
  await browser.advance(60000);
  assert.equal(browser.gets.length, gets, "nor does it poll");
});

test("taps that are pending go out when the page is hidden, because it may never come back", async () => {
  const seen = live();
  seen.room.react("🔥");
  browser.hide();
  assert.deepEqual(browser.beacons[0].reactions, { "🔥": 1 });
});

test("nothing is left on the page after close", async () => {
  const targets = [browser.window, browser.page];
  const counts = new Map();
  for (const target of targets) {
    const [add, remove] = [target.addEventListener.bind(target), target.removeEventListener.bind(target)];
    target.addEventListener = (type, ...rest) => (counts.set(type, (counts.get(type) || 0) + 1), add(type, ...rest));
    target.removeEventListener = (type, ...rest) => (counts.set(type, counts.get(type) - 1), remove(type, ...rest));
  }
  const seen = live();
  seen.room.react("🔥");
  assert.equal(counts.size, 6);
  seen.room.close();
  for (const [type, count] of counts) assert.equal(count, 0, type);
  await browser.advance(0);
  assert.equal(browser.clock.timers.length, 0);
});
