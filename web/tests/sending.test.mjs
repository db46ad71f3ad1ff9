import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { uproar } from "../uproar.js";
import { browser, frame, install, options, watch } from "./harness.mjs";

install();
beforeEach(() => browser.reset());

const sender = (random = 0.5) => {
  const room = uproar("https://live.example.com/", options(random)).room("final");
  const limits = [];
  room.on("limits", (one) => limits.push(one));
  return { room, limits };
};

test("taps are shown at once, and posted as one sum", async () => {
  const { room } = sender();
  const taps = [];
  room.on("tap", (tap) => taps.push(tap));
  assert.equal(room.react("🔥"), true);
  assert.equal(room.react("🔥", 2), true);
  assert.equal(room.react("👏"), true);
  assert.deepEqual({ ...room.mine }, { "🔥": 3, "👏": 1 });
  assert.equal(taps.length, 3);
  assert.equal(browser.posts.length, 0);
  await browser.advance(1000);
  assert.equal(browser.posts.length, 1);
  const [post] = browser.posts;
  assert.equal(post.url, "https://live.example.com/v1/rooms/final/reactions");
  assert.deepEqual(post.reactions, { "🔥": 3, "👏": 1 });
  assert.equal(post.keepalive, true);
  assert.match(post.headers["Idempotency-Key"], /^[\x21-\x7e]{1,64}$/);
});

test("a room that only sends opens no connection", async () => {
  const { room } = sender();
  room.react("🔥");
  await browser.advance(5000);
  assert.equal(browser.sockets.length, 0);
  assert.equal(room.state, "off");
});

test("posts keep to one per post_ms, each client at its own phase", async () => {
  const at = [];
  for (const random of [0, 0.25, 0.75]) {
    const { room } = sender(random);
    room.react("🔥");
    await browser.advance(2000);
    at.push(browser.posts.pop().at % 1000);
  }
  assert.equal(new Set(at).size, 3, String(at));
  const { room } = sender();
  browser.requests = [];
  for (let taps = 0; taps < 50; taps++) {
    room.react("🔥");
    await browser.advance(100);
  }
  const times = browser.posts.map((post) => post.at);
  assert.ok(times.length >= 4 && times.length <= 5, String(times));
  times.slice(1).forEach((time, index) => assert.ok(time - times[index] >= 1000));
});

test("the server sets the pace in its hello", async () => {
  const { room } = watch(uproar);
  browser.socket.hello({ post_ms: 4000 });
  for (let taps = 0; taps < 100; taps++) {
    room.react("🔥");
    await browser.advance(100);
  }
  assert.ok(browser.posts.length <= 3, String(browser.posts.length));
  assert.ok(browser.posts.length >= 2);
});

test("a nonsensical hello leaves the defaults", async () => {
  const { room } = watch(uproar);
  browser.socket.hello({ post_ms: "soon", reconnect_jitter_ms: -1 });
  room.react("🔥");
  await browser.advance(1000);
  assert.equal(browser.posts.length, 1);
});

test("taps are sent as they were tapped, and folded only to compare them", async () => {
  const { room } = sender();
  room.react("👍🏽");
  room.react("👍");
  room.react("❤️");
  room.react("❤");
  assert.deepEqual({ ...room.mine }, { "👍": 2, "❤": 2 });
  room.react("👍🏽");
  assert.equal(room.display("👍"), "👍🏽");
  assert.equal(room.display("👍🏿"), "👍🏽");
  assert.equal(room.display("🔥"), "🔥");
  await browser.advance(1000);
  assert.deepEqual(browser.posts[0].reactions, { "👍🏽": 2, "👍": 1, "❤️": 1, "❤": 1 });
});

test("names that objects have of their own are reactions like others", async () => {
  const { room } = sender();
  for (const name of ["__proto__", "constructor", "toString", "<img src=x onerror=alert(1)>", "\u202Eabc"]) {
    assert.equal(room.react(name), true);
    assert.equal(room.mine[name], 1, name);
    assert.equal(room.display(name), name);
  }
  assert.equal(room.display("valueOf"), "valueOf");
  await browser.advance(1000);
  const posted = JSON.parse(browser.posts[0].body);
  assert.equal(Object.keys(posted.reactions).length, 5);
});

test("fold: NFC, without presentation selectors and skin tones, never empty", () => {
  const same = [["e\u0301", "\u00e9"], ["❤️", "❤"], ["❤\uFE0E", "❤"], ["👍🏿", "👍"], ["👩🏽‍🚀", "👩‍🚀"], ["#️⃣", "#⃣"], ["🏽", "🏽"]];
  for (const [reaction, folded] of same) assert.equal(uproar.fold(reaction), folded);
  assert.notEqual(uproar.fold("🏴󠁧󠁢󠁥󠁮󠁧󠁿"), uproar.fold("🏴"));
});

test("what is no reaction is refused at once", () => {
  const { room } = sender();
  for (const [reaction, count] of [["", 1], [null, 1], [7, 1], ["🔥", 0], ["🔥", -1], ["🔥", NaN], ["🔥", 1001]]) {
    assert.equal(room.react(reaction, count), false);
  }
  assert.deepEqual({ ...room.mine }, {});
});

/* mdn/browser-compat-data#16414: the request failed before it was sent. */
test("Chromium before 85 gets no keepalive where there is a preflight", async () => {
  const saved = globalThis.AggregateError; // came with 85
  delete globalThis.AggregateError;
  const { room } = sender();
  browser.onPost = (post) => ({ status: post.headers["Idempotency-Key"] ? 503 : 202 });
  room.react("🔥");
  await browser.advance(4000);
  globalThis.AggregateError = saved;
  assert.deepEqual(browser.posts.map((post) => post.keepalive), [false, true]);
});

test("429 is retried after Retry-After, and not before", async () => {
  const { room, limits } = sender();
  const refusal = { status: 429, headers: { "retry-after": "3" }, body: { detail: "too fast" } };
  browser.onPost = () => (browser.posts.length === 1 ? refusal : { status: 202 });
  room.react("🔥");
  await browser.advance(1000);
  assert.equal(limits[0].status, 429);
  assert.equal(limits[0].wait_ms, 3000);
  assert.equal(limits[0].detail, "too fast");
  assert.equal(limits[0].dropped, null);
  room.react("🔥");
  await browser.advance(2000);
  assert.equal(browser.posts.length, 1);
  await browser.advance(2000);
  assert.equal(browser.posts.length, 2);
  assert.deepEqual(browser.posts[1].reactions, { "🔥": 2 });
  assert.ok(browser.posts[1].at - browser.posts[0].at >= 3000);
});

test("503 is retried, without a key once, because the table of keys may be full", async () => {
  const { room } = sender();
  browser.onPost = () => ({ status: browser.posts.length === 1 ? 503 : 202, headers: { "retry-after": "1" } });
  room.react("🔥");
  await browser.advance(4000);
  assert.equal(browser.posts.length, 2);
  assert.ok(browser.posts[0].headers["Idempotency-Key"]);
  assert.equal(browser.posts[1].headers["Idempotency-Key"], undefined);
  room.react("🔥");
  await browser.advance(1000);
  assert.ok(browser.posts[2].headers["Idempotency-Key"]);
});

test("a server that takes no keys gets none", async () => {
  const { room } = sender();
  browser.onPost = (post) => ({ status: post.headers["Idempotency-Key"] ? 400 : 202 });
  for (let taps = 0; taps < 4; taps++) {
    room.react("🔥");
    await browser.advance(2000);
  }
  assert.equal(browser.posts.filter((post) => post.headers["Idempotency-Key"]).length, 1);
  assert.equal(browser.posts.reduce((sum, post) => sum + post.reactions["🔥"], 0), 5);
});

test("504 is repeated with the same key and body, and new taps wait", async () => {
  let dice = 0;
  const room = uproar("https://live.example.com", { ...options(), random: () => (dice += 0.137) % 1 }).room("final");
  browser.onPost = () => ({ status: browser.posts.length < 3 ? 504 : 202 });
  room.react("🔥");
  await browser.advance(1000);
  room.react("👏");
  await browser.advance(5000);
  const [first, second, third, fourth] = browser.posts;
  assert.equal(first.body, second.body);
  assert.equal(first.body, third.body);
  assert.equal(new Set([first, second, third].map((post) => post.headers["Idempotency-Key"])).size, 1);
  assert.deepEqual(fourth.reactions, { "👏": 1 });
  assert.notEqual(fourth.headers["Idempotency-Key"], first.headers["Idempotency-Key"]);
});

test("a repeat that is refused stays a repeat", async () => {
  const { room } = sender();
  browser.onPost = () => ({ status: [504, 429, 503, 202][browser.posts.length - 1], headers: { "retry-after": "1" } });
  room.react("🔥");
  await browser.advance(9000);
  assert.equal(browser.posts.length, 4);
  assert.equal(new Set(browser.posts.map((post) => post.headers["Idempotency-Key"])).size, 1);
});

test("taps older than 10 s are dropped, never queued", async () => {
  const { room, limits } = sender();
  browser.onPost = () => ({ status: 503, headers: { "retry-after": "8" } });
  room.react("🔥");
  await browser.advance(5000);
  room.react("👏");
  await browser.advance(60000);
  const dropped = limits.filter((one) => one.dropped).map((one) => ({ ...one.dropped }));
  assert.deepEqual(Object.assign({}, ...dropped), { "🔥": 1, "👏": 1 });
  assert.deepEqual({ ...room.mine }, {});
  browser.posts.forEach((post) => assert.ok(post.at <= browser.clock.now - 40000));
});

test("a 504 that is never resolved is given up after 10 s", async () => {
  const { room, limits } = sender();
  browser.onPost = () => ({ status: 504 });
  room.react("🔥");
  await browser.advance(60000);
  assert.ok(browser.posts.length <= 11, String(browser.posts.length));
  assert.deepEqual({ ...limits[limits.length - 1].dropped }, { "🔥": 1 });
});

test("other refusals and broken connections are not retried", async () => {
  for (const answer of [{ status: 422, body: { detail: "not in the catalogue" } }, { status: 404 }, new Error("network")]) {
    browser.reset();
    const { room, limits } = sender();
    browser.onPost = () => answer;
    room.react("🔥");
    await browser.advance(30000);
    assert.equal(browser.posts.length, 1);
    assert.equal(limits.length, 1);
    assert.equal(limits[0].status, answer.status || 0);
    assert.deepEqual({ ...limits[0].dropped }, { "🔥": 1 });
    assert.deepEqual({ ...room.mine }, {});
  }
});

test("an answer that never comes holds nothing up for ever", async () => {
  const { room } = sender();
  browser.onPost = () => new Promise(() => {});
  room.react("🔥");
  await browser.advance(1000);
  room.react("👏");
  await browser.advance(9000);
  assert.equal(browser.posts.length, 1, "one post at a time");
  browser.onPost = () => ({ status: 202 });
  room.react("👏");
  await browser.advance(2500);
  assert.equal(browser.posts.length, 2);
  assert.equal(browser.posts[1].reactions["🔥"], undefined);
});

test("a clock that jumps neither stops the posts nor hurries them", async () => {
  for (const jump of [-3600000, 3600000]) {
    browser.reset();
    let offset = 0;
    const now = () => browser.clock.now + offset;
    const room = uproar("https://live.example.com", { ...options(), now }).room("final");
    room.react("🔥");
    await browser.advance(1000);
    offset = jump;
    room.react("🔥");
    await browser.advance(1000);
    assert.equal(browser.posts.length, 2, String(jump));
    browser.onPost = () => ({ status: 429, headers: { "retry-after": "3" } });
    room.react("🔥");
    await browser.advance(1000);
    offset = 0;
    await browser.advance(2000);
    assert.equal(browser.posts.length, 3, "Retry-After holds");
  }
});

test("offline, nothing is posted; what is young enough is posted after", async () => {
  const { room } = sender();
  browser.navigator.onLine = false;
  room.react("🔥");
  await browser.advance(8000);
  room.react("👏");
  await browser.advance(4000);
  assert.equal(browser.posts.length, 0);
  browser.navigator.onLine = true;
  await browser.advance(1000);
  assert.deepEqual(browser.posts[0].reactions, { "👏": 1 });
});

test("what the server's limits leave is told", async () => {
  const { room, limits } = sender();
  browser.onPost = () => ({ status: 202, headers: { ratelimit: '"requests";r=7;t=1, "reactions";r=1200;t=1' } });
  room.react("🔥");
  await browser.advance(1000);
  assert.deepEqual({ ...limits[0].left }, { requests: 7, reactions: 1200 });
  assert.equal(limits[0].status, 202);
  assert.equal(limits[0].post_ms, 1000);
});

test("a post has at most 32 kinds and 1,000 of each; the rest goes with the next", async () => {
  const { room } = sender();
  for (let kind = 0; kind < 40; kind++) room.react("r" + kind);
  room.react("r0", 1000);
  await browser.advance(1000);
  assert.equal(Object.keys(browser.posts[0].reactions).length, 32);
  assert.equal(browser.posts[0].reactions.r0, 1);
  await browser.advance(1000);
  assert.equal(Object.keys(browser.posts[1].reactions).length, 9);
  assert.equal(browser.posts[1].reactions.r0, 1000);
});

test("memory is bounded, whatever is tapped", async () => {
  const { room } = sender();
  let taken = 0;
  for (let kind = 0; kind < 5000; kind++) taken += room.react("r" + kind) ? 1 : 0;
  assert.equal(taken, 1000);
});

test("the forms of the viewer are remembered within bounds", async () => {
  const { room } = sender();
  for (let kind = 0; kind < 1500; kind++) {
    room.react("r" + kind);
    if (kind % 500 === 499) await browser.advance(120000);
  }
  assert.equal(room._tones.size, 1000);
});

test("a post that is refused after the room was closed is not repeated", async () => {
  const { room } = sender();
  let answer;
  browser.onPost = () => new Promise((resolve) => (answer = resolve));
  room.react("🔥");
  await browser.advance(1000);
  room.close();
  answer({ status: 429, headers: { "retry-after": "1" } });
  await browser.advance(5000);
  assert.equal(browser.posts.length, 1);
});

test("a beacon takes what is pending when the page goes", async () => {
  const { room } = sender();
  room.react("🔥", 3);
  browser.fire("pagehide");
  assert.deepEqual(browser.beacons, [
    { url: "https://live.example.com/v1/rooms/final/reactions", reactions: { "🔥": 3 } },
  ]);
  await browser.advance(5000);
  assert.equal(browser.posts.length, 0, "not posted again");
});

test("a beacon that the browser refuses leaves the taps to the next post", async () => {
  const { room } = sender();
  browser.navigator.sendBeacon = () => false;
  room.react("🔥");
  browser.fire("pagehide");
  await browser.advance(1000);
  assert.equal(browser.posts.length, 1);
});

test("a beacon does not repeat what is being posted", async () => {
  const { room } = sender();
  browser.onPost = () => new Promise(() => {});
  room.react("🔥");
  await browser.advance(1000);
  browser.fire("pagehide");
  assert.equal(browser.beacons.length, 0);
});

test("own taps leave `mine` with the frame that contains them", async () => {
  const { room } = watch(uproar);
  browser.socket.hello();
  browser.socket.send(frame({ end: browser.clock.now - 100 })); // frames take 100 ms
  room.react("🔥", 2);
  await browser.advance(1000);
  assert.equal(browser.posts.length, 1);
  const counted = browser.posts[0].at;
  await browser.advance(500);
  browser.socket.send(frame({ end: counted - 500 }));
  assert.equal(room.mine["🔥"], 2, "its window ended before");
  await browser.advance(2000);
  browser.socket.send(frame({ end: counted + 1500 }));
  assert.equal(room.mine["🔥"], undefined);
});

test("own taps leave `mine` also where the clock is an hour wrong", async () => {
  for (const hour of [3600000, -3600000]) {
    browser.reset();
    const { room } = watch(uproar);
    browser.socket.hello();
    browser.socket.send(frame({ end: browser.clock.now - hour }));
    room.react("🔥");
    await browser.advance(1000);
    browser.socket.send(frame({ end: browser.posts[0].at - hour - 200 }));
    assert.equal(room.mine["🔥"], 1);
    await browser.advance(2000);
    browser.socket.send(frame({ end: browser.clock.now - hour }));
    assert.equal(room.mine["🔥"], undefined);
  }
});

test("a closed room takes no taps, and sends its last", async () => {
  const { room } = sender();
  room.react("🔥");
  room.close();
  assert.equal(browser.beacons.length, 1);
  assert.equal(room.react("🔥"), false);
  await browser.advance(20000);
  assert.equal(browser.posts.length, 0);
});
