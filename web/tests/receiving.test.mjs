import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { uproar } from "../uproar.js";
import { START, browser, frame, install, watch } from "./harness.mjs";

install();
beforeEach(() => browser.reset());

const states = (seen) => seen.states.map((one) => one.state);
const RUNNING = () => ({ status: 200, body: frame() });
const AWAY = () => new Error("refused");

test("a room connects when somebody listens, and leaves with the last listener", async () => {
  const seen = watch(uproar);
  assert.equal(browser.socket.url, "wss://live.example.com/v1/rooms/final/live");
  assert.equal(seen.room.state, "connecting");
  const off = seen.room.on("frame", () => {});
  assert.equal(browser.sockets.length, 1);
  browser.socket.hello({ catalogue: ["🔥"] });
  assert.equal(seen.room.state, "live");
  assert.deepEqual(seen.room.hello.catalogue, ["🔥"]);
  browser.socket.send(frame({ viewers: 12, mood: "loud" }));
  assert.equal(seen.frames[0].viewers, 12);
  assert.equal(seen.room.frame, seen.frames[0]);
  seen.off();
  assert.equal(seen.room.state, "live");
  off();
  assert.equal(seen.room.state, "off");
  assert.equal(browser.socket.isOpen, false);
  await browser.advance(100000);
  assert.equal(browser.sockets.length, 1);
});

test("a frame comes again when the room is closed or opened, and a closed room takes no taps", () => {
  const seen = watch(uproar);
  browser.socket.hello();
  const open = { since: 5, seq: 7 };
  assert.equal(seen.room.react("🔥"), true);
  [open, open, { ...open, state: "closed" }, { ...open, state: "closed" }].forEach((one) =>
    browser.socket.send(frame(one))
  );
  assert.deepEqual(seen.frames.map((one) => one.state), [undefined, "closed"]);
  assert.equal(seen.room.react("🔥"), false);
  browser.socket.send(frame(open));
  assert.deepEqual(seen.frames.map((one) => one.state), [undefined, "closed", undefined]);
  assert.equal(seen.room.react("🔥"), true);
});

test("frames that are old, repeated or malformed are passed over", () => {
  const seen = watch(uproar);
  browser.socket.hello();
  const [first, second] = [frame({ since: 5, seq: 7 }), frame({ since: 5, seq: 9 })];
  [first, first, second, first, "no json", "null", "[]", '"x"', "7", { v: 1 }, frame({ v: 2 })].forEach((message) =>
    browser.socket.send(message)
  );
  assert.deepEqual(seen.frames, [first, second]);
  browser.socket.send(frame({ since: 6, seq: 1 }));
  assert.equal(seen.frames.length, 3, "a new life begins at 1");
  browser.socket.send(frame({ since: 5, seq: 10 }));
  assert.equal(seen.frames.length, 3);
});

test("1012: away, and back within the server's jitter", async () => {
  const seen = watch(uproar, { random: () => 0.999 });
  browser.socket.hello({ reconnect_jitter_ms: 8000 });
  await browser.advance(20000);
  browser.socket.drop(1012, "going away");
  assert.deepEqual(seen.states[2], { state: "away", code: 1012, reason: "going away" });
  await browser.advance(7900);
  assert.equal(browser.sockets.length, 1);
  await browser.advance(100);
  assert.equal(browser.sockets.length, 2);
  browser.socket.hello();
  assert.deepEqual(states(seen), ["connecting", "live", "away", "connecting", "live"]);
});

test("1012 again and again does not lengthen the wait", async () => {
  watch(uproar, { random: () => 0.999 });
  for (let times = 1; times <= 6; times++) {
    assert.equal(browser.sockets.length, times);
    browser.socket.hello({ reconnect_jitter_ms: 1000 });
    browser.socket.drop(1012);
    await browser.advance(1000);
  }
});

test("the wait is full jitter, doubled to 60 s", async () => {
  browser.onGet = AWAY;
  for (const [random, most] of [[0, 0], [0.999, 60000]]) {
    browser.reset();
    browser.onGet = AWAY;
    watch(uproar, { random: () => random });
    let before = browser.clock.now;
    const waits = [];
    for (let tries = 0; tries < 8; tries++) {
      browser.socket.drop();
      const sockets = browser.sockets.length;
      while (browser.sockets.length === sockets) await browser.advance(10);
      waits.push(browser.clock.now - before);
      before = browser.clock.now;
    }
    if (most) assert.deepEqual(waits.map((wait) => Math.round(wait / 1000)), [5, 10, 20, 40, 60, 60, 60, 60]);
    else waits.forEach((wait) => assert.ok(wait <= 20, String(waits)));
  }
});

test("a connection that lasted begins the waits from the start", async () => {
  browser.onGet = AWAY;
  watch(uproar, { random: () => 0.999 });
  for (const wait of [5000, 10000, 20000]) {
    browser.socket.drop();
    await browser.advance(wait);
  }
  browser.socket.hello();
  await browser.advance(10000);
  browser.socket.drop();
  const sockets = browser.sockets.length;
  await browser.advance(5000);
  assert.equal(browser.sockets.length, sockets + 1);
});

test("1008: never again", async () => {
  const seen = watch(uproar);
  browser.socket.hello();
  browser.socket.drop(1008, "viewers can't speak");
  assert.equal(seen.room.state, "closed");
  assert.deepEqual(seen.states[seen.states.length - 1], { state: "closed", code: 1008, reason: "viewers can't speak" });
  browser.fire("online");
  browser.hide();
  browser.show();
  seen.room.on("frame", () => {});
  await browser.advance(600000);
  assert.equal(browser.sockets.length, 1);
  assert.equal(browser.gets.length, 0);
  assert.equal(seen.room.state, "closed");
});

test("1013: polling at once", async () => {
  const seen = watch(uproar);
  browser.onGet = RUNNING;
  browser.socket.hello();
  browser.socket.drop(1013);
  await browser.advance(1500);
  assert.equal(seen.room.state, "polling");
  assert.equal(browser.streams.length, 0);
  assert.equal(seen.frames.length, 1);
});

test("a refused socket: events; refused events: polling; all within 5 s", async () => {
  const seen = watch(uproar);
  browser.onGet = RUNNING;
  browser.socket.drop();
  await browser.advance(1500);
  assert.equal(browser.stream.url, "https://live.example.com/v1/rooms/final/events");
  assert.equal(seen.frames.length, 1, "the snapshot that was asked for is shown");
  browser.stream.onerror();
  assert.equal(browser.stream.isOpen, false);
  await browser.advance(1500);
  assert.equal(seen.room.state, "polling");
  assert.deepEqual(states(seen), ["connecting", "polling"]);
});

test("the same frames come over events", async () => {
  const seen = watch(uproar);
  browser.onGet = () => ({ status: 404 });
  browser.socket.drop();
  await browser.advance(1500);
  browser.stream.onopen();
  assert.equal(seen.room.state, "live");
  browser.stream.onmessage({ data: JSON.stringify(frame()) });
  assert.equal(seen.frames.length, 1);
});

test("a server that is away is waited for, not polled", async () => {
  for (const get of [AWAY, () => ({ status: 502 }), () => ({ status: 503 }), () => ({ status: 429 })]) {
    browser.reset();
    const seen = watch(uproar);
    browser.onGet = get;
    for (const wait of [2500, 5000, 10000, 20000, 30000]) {
      browser.socket.drop();
      await browser.advance(wait);
    }
    assert.equal(browser.streams.length, 0);
    assert.equal(browser.sockets.length, 6);
    browser.socket.hello();
    assert.equal(seen.room.state, "live");
  }
});

test("three sockets in a row that open and break: events", async () => {
  watch(uproar, { random: () => 0 });
  browser.onGet = RUNNING;
  for (let times = 0; times < 3; times++) {
    assert.equal(browser.streams.length, 0);
    browser.socket.hello();
    await browser.advance(1000);
    browser.socket.drop();
    await browser.advance(1);
  }
  assert.equal(browser.sockets.length, 3);
  assert.equal(browser.streams.length, 1);
});

test("a socket that neither opens nor fails is given up after 10 s", async () => {
  watch(uproar);
  browser.onGet = RUNNING;
  await browser.advance(11000);
  assert.equal(browser.sockets[0].isOpen, false);
  assert.equal(browser.streams.length, 1);
});

test("browsers without WebSocket or EventSource poll", async () => {
  const saved = [globalThis.WebSocket, globalThis.EventSource];
  globalThis.WebSocket = globalThis.EventSource = undefined;
  const seen = watch(uproar);
  browser.onGet = RUNNING;
  await browser.advance(2500);
  [globalThis.WebSocket, globalThis.EventSource] = saved;
  assert.equal(seen.room.state, "polling");
});

/** Brings a room down to polling. */
async function polling(extra) {
  const seen = watch(uproar, extra);
  let end = browser.clock.now;
  browser.onGet = () => {
    while (end + 2000 <= browser.clock.now) end += 2000;
    return { status: 200, body: frame({ end, seq: end, since: 1 }) };
  };
  browser.socket.hello();
  browser.socket.drop(1013);
  await browser.advance(1100);
  assert.equal(seen.room.state, "polling");
  return seen;
}

test("polling asks once a window, soon after its end, at random points of half a window", async () => {
  let dice = 0;
  await polling({ random: () => (dice += 0.37) % 1 });
  await browser.advance(20000);
  const before = browser.gets.length;
  await browser.advance(100000);
  const after = browser.gets.slice(before).map((get) => (get.at - START) % 2000);
  assert.ok(after.length >= 45 && after.length <= 51, String(after.length));
  after.forEach((phase) => assert.ok(phase <= 1250, String(after)));
  assert.ok(Math.max(...after) - Math.min(...after) > 800, String(after));
});

test("polling shows each frame once", async () => {
  const seen = await polling();
  await browser.advance(60000);
  const ends = seen.frames.map((one) => one.window.end);
  assert.equal(new Set(ends).size, ends.length);
  assert.ok(ends.length >= 20, String(ends.length));
});

test("polling goes back to the socket later, without a gap", async () => {
  const seen = await polling();
  await browser.advance(46000);
  assert.equal(browser.sockets.length, 2);
  assert.equal(seen.room.state, "polling", "until the socket has said hello");
  const gets = browser.gets.length;
  browser.socket.hello();
  assert.equal(seen.room.state, "live");
  await browser.advance(30000);
  assert.equal(browser.gets.length, gets, "it no longer polls");
  assert.deepEqual(states(seen), ["connecting", "live", "connecting", "polling", "live"]);
});

test("a socket that stays refused is tried less and less often", async () => {
  const seen = await polling({ random: () => 0.999 });
  const tries = [];
  for (let minutes = 0; minutes < 60; minutes++) {
    const before = browser.sockets.length;
    await browser.advance(60000);
    if (browser.sockets.length > before) {
      tries.push(minutes);
      browser.socket.drop();
    }
  }
  assert.ok(tries.length >= 6 && tries.length <= 10, String(tries));
  assert.equal(seen.room.state, "polling");
});

test("a socket that worked is tried soon again the next time", async () => {
  const seen = await polling();
  for (let times = 0; times < 5; times++) {
    await browser.advance(46000);
    browser.socket.hello();
    assert.equal(seen.room.state, "live", String(times));
    browser.socket.drop(1013);
    await browser.advance(1100);
  }
});

test("polling that fails waits, and comes back", async () => {
  const seen = await polling();
  browser.onGet = AWAY;
  await browser.advance(5000);
  assert.equal(seen.room.state, "away");
  browser.onGet = RUNNING;
  await browser.advance(20000);
  assert.equal(seen.room.state, "polling");
});

test("a viewer who mutes receives nothing until unmuted", async () => {
  const seen = watch(uproar);
  browser.socket.hello();
  seen.room.mute();
  assert.equal(browser.socket.isOpen, false);
  assert.deepEqual(seen.states[2], { state: "off", code: 0, reason: "muted" });
  browser.fire("online");
  await browser.advance(100000);
  assert.equal(browser.sockets.length, 1);
  assert.equal(seen.room.react("🔥"), true);
  seen.room.mute(false);
  assert.equal(browser.sockets.length, 2);
});

test("a listener that throws stops nobody", async () => {
  const room = uproar("https://live.example.com", { now: () => browser.clock.now, random: Math.random }).room("final");
  const frames = [];
  room.on("frame", () => {
    throw new Error("mine");
  });
  room.on("frame", (one) => frames.push(one));
  browser.socket.hello();
  browser.socket.send(frame());
  assert.equal(frames.length, 1);
  await assert.rejects(browser.advance(0), /mine/);
});

test("an event that does not exist is an error", () => {
  const { room } = watch(uproar);
  assert.throws(() => room.on("frames", () => {}), /frame, state, limits or tap/);
});

test("a name that is no room is an error", () => {
  const client = uproar("https://live.example.com");
  for (const name of ["", ".", "..", "a/b", "ü", "a b", "x".repeat(65), "<script>", "a?b", "a%41", null, undefined]) {
    assert.throws(() => client.room(name), /is no room/, String(name));
  }
  for (const name of ["final", "A-Za~z0.9_", "x".repeat(64), "..."]) assert.equal(client.room(name).name, name);
});

test("for await gives the newest frame to a slow loop, and ends with the room", async () => {
  const { room } = watch(uproar);
  browser.socket.hello();
  const got = [];
  const loop = (async () => {
    for await (const one of room) got.push(one.seq);
  })();
  await browser.advance(0);
  const frames = [frame(), frame(), frame()];
  browser.socket.send(frames[0]);
  await browser.advance(0);
  browser.socket.send(frames[1]);
  browser.socket.send(frames[2]);
  await browser.advance(0);
  room.close();
  await loop;
  assert.deepEqual(got, [frames[0].seq, frames[2].seq]);
});

test("leaving a for await loop takes its listener away", async () => {
  const room = uproar("https://live.example.com", { now: () => browser.clock.now }).room("final");
  const loop = (async () => {
    for await (const one of room) return one;
  })();
  browser.socket.hello();
  browser.socket.send(frame());
  assert.ok(await loop);
  assert.equal(room.state, "off");
});

for (const way of ["close", "mute"]) {
  test(`a listener may ${way} the room at any state`, async () => {
    for (const state of ["connecting", "live", "away", "polling"]) {
      browser.reset();
      const room = uproar("https://live.example.com", { now: () => browser.clock.now, random: () => 0 }).room("final");
      room.on("state", (event) => event.state === state && room[way]());
      room.on("frame", () => {});
      browser.onGet = RUNNING;
      const open = () => browser.sockets.filter((socket) => socket.isOpen);
      if (open().length) browser.socket.hello();
      if (open().length) browser.socket.drop(state === "polling" ? 1013 : 1012);
      await browser.advance(1500);
      const [sockets, gets] = [browser.sockets.length, browser.gets.length];
      assert.equal(room.state, way === "close" ? "closed" : "off", state);
      await browser.advance(3600000);
      assert.deepEqual([open().length, browser.sockets.length, browser.gets.length], [0, sockets, gets], state);
    }
  });
}
