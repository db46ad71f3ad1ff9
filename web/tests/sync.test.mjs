// Spoiler-safe: a frame is shown when the player has reached the end of its window.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { uproar } from "../uproar.js";
import { browser, frame, install, watch } from "./harness.mjs";

install();
beforeEach(() => browser.reset());

/** A room, and a player that is `lag` behind. */
function behind(lag) {
  const seen = watch(uproar);
  const player = { lag, now: () => browser.clock.now - player.lag };
  browser.socket.hello();
  seen.room.sync(player);
  return { ...seen, player };
}

const show = () => {
  const one = frame();
  browser.socket.send(one);
  return one;
};

test("a frame waits until the player has reached its window's end", async () => {
  const { frames } = behind(30000);
  show();
  await browser.advance(29990);
  assert.equal(frames.length, 0);
  await browser.advance(20);
  assert.equal(frames.length, 1);
});

test("frames come in their order and at their pace, never early", async () => {
  const { frames, room, player } = behind(20000);
  room.on("frame", (one) => assert.ok(player.now() >= one.window.end));
  for (let windows = 0; windows < 10; windows++) {
    show();
    await browser.advance(2000);
  }
  await browser.advance(30000);
  assert.deepEqual(frames.map((one) => one.seq), frames.map((_, index) => frames[0].seq + index));
  assert.equal(frames.length, 10);
});

test("hls.js gives a Date, or null before it knows", async () => {
  const seen = watch(uproar);
  let playingDate = null;
  browser.socket.hello();
  seen.room.sync({ now: () => playingDate });
  show();
  assert.equal(seen.frames.length, 1, "now");
  playingDate = new Date(browser.clock.now - 5000);
  show();
  assert.equal(seen.frames.length, 1);
  playingDate = new Date(browser.clock.now);
  await browser.advance(250);
  assert.equal(seen.frames.length, 2);
});

test("without a clock a frame is shown now", () => {
  for (const now of [() => null, () => undefined, () => NaN, () => new Date(NaN), () => { throw new Error("no player"); }, undefined]) {
    browser.reset();
    const seen = watch(uproar);
    browser.socket.hello();
    seen.room.sync({ now });
    show();
    assert.equal(seen.frames.length, 1);
  }
});

test("a clock that goes missing lets go of what was held", async () => {
  const { frames, player } = behind(30000);
  show();
  player.now = () => null;
  await browser.advance(250);
  assert.equal(frames.length, 1);
});

test("a clock that jumps by more than a minute is not believed", async () => {
  for (const jump of [-3600000, 3600000, 120000]) {
    browser.reset();
    const { frames, player } = behind(10000);
    show();
    await browser.advance(1000);
    assert.equal(frames.length, 0);
    player.lag += jump;
    await browser.advance(250);
    assert.equal(frames.length, 1, String(jump));
  }
});

test("a viewer who seeks within a minute is followed", async () => {
  const { frames, player } = behind(10000);
  show();
  await browser.advance(5000);
  player.lag = 40000;
  await browser.advance(34000);
  assert.equal(frames.length, 0);
  await browser.advance(1100);
  assert.equal(frames.length, 1);
});

test("a pause holds for 60 s at most", async () => {
  const { frames, player } = behind(10000);
  const paused = player.now();
  player.now = () => paused;
  show();
  await browser.advance(59000);
  assert.equal(frames.length, 0);
  await browser.advance(1300);
  assert.equal(frames.length, 1);
});

test("a seek to the live edge shows the newest, whose totals hold the rest", async () => {
  const { frames, player } = behind(30000);
  for (let windows = 0; windows < 10; windows++) {
    show();
    await browser.advance(2000);
  }
  assert.equal(frames.length, 0);
  player.lag = 0;
  const newest = show();
  await browser.advance(250);
  assert.deepEqual(frames, [newest]);
});

test("what is held is bounded", async () => {
  const { room, player } = behind(59000);
  for (let windows = 0; windows < 1000; windows++) show();
  assert.equal(room._hold.held.length, 600);
  player.lag = 0;
});

test("sync(null) is now again", async () => {
  const { frames, room } = behind(30000);
  show();
  room.sync(null);
  assert.equal(frames.length, 1);
  show();
  assert.equal(frames.length, 2);
});

test("close and mute forget what is held", async () => {
  for (const way of ["close", "mute"]) {
    browser.reset();
    const { frames, room } = behind(30000);
    show();
    room[way]();
    await browser.advance(120000);
    assert.equal(frames.length, 0);
  }
});

test("own taps stay in `mine` until the frame that contains them is shown", async () => {
  const { room } = behind(20000);
  browser.socket.send(frame({ end: browser.clock.now - 100 }));
  room.react("🔥");
  await browser.advance(3000);
  show();
  await browser.advance(1000);
  assert.equal(room.mine["🔥"], 1);
  await browser.advance(20000);
  assert.equal(room.mine["🔥"], undefined);
});
