// uproar.fake, as an app's team uses it.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { uproar } from "../uproar.fake.js";
import { browser, install, options } from "./harness.mjs";

install();
beforeEach(() => browser.reset());

function room(client) {
  const seen = { room: client.room("final"), frames: [], states: [] };
  seen.room.on("state", ({ state }) => seen.states.push(state));
  seen.room.on("frame", (frame) => seen.frames.push(frame));
  return seen;
}

test("a script of frames", async () => {
  const client = uproar.fake(
    [{ counts: { "🔥": 3 } }, { wait_ms: 2000, counts: { "🔥": 1, "👏": 2 }, fields: { viewers: 7 } }],
    options()
  );
  const { frames, states } = room(client);
  await browser.advance(10);
  assert.deepEqual(states, ["connecting", "live"]);
  assert.equal(frames.length, 1);
  await browser.advance(2000);
  const frame = frames[1];
  assert.deepEqual(
    [frame.room, frame.seq, frame.count, frame.counts, frame.total, frame.totals, frame.viewers],
    ["final", 2, 3, { "🔥": 1, "👏": 2 }, 6, { "🔥": 4, "👏": 2 }, 7]
  );
  assert.equal(browser.sockets.length + browser.requests.length, 0, "no network");
});

test("what is posted is kept, and counted in the next frame", async () => {
  const client = uproar.fake([], options());
  const seen = room(client);
  await browser.advance(10);
  seen.room.react("🔥", 2);
  await browser.advance(200);
  assert.deepEqual(client.posts, [{ room: "final", reactions: { "🔥": 2 } }]);
  client.frame({ "👏": 1 });
  assert.deepEqual(seen.frames[0].counts, { "🔥": 2, "👏": 1 });
});

test("a lost connection comes back", async () => {
  const client = uproar.fake([{ counts: { "🔥": 1 } }, { wait_ms: 100, down: 1012 }], options());
  const { states, frames } = room(client);
  await browser.advance(1000);
  assert.deepEqual(states, ["connecting", "live", "away", "connecting", "live"]);
  assert.equal(frames.length, 1, "the newest is not shown twice");
  client.frame();
  assert.equal(frames.length, 2);
});

test("two rooms of one client are two rooms", async () => {
  const client = uproar.fake([], options());
  const [one, other] = [client.room("one"), client.room("other")];
  const frames = [];
  [one, other].forEach((room) => room.on("frame", (frame) => frames.push(frame)));
  await browser.advance(10);
  one.react("🔥");
  await browser.advance(200);
  client.frame();
  assert.deepEqual(frames.map((frame) => [frame.room, frame.count]), [["one", 1], ["other", 0]]);
});
