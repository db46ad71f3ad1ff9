/*
 * uproar.fake(script): a client without a server, for the tests of an app. Import this file, and `uproar.fake` is there.
 * Its rooms are those of uproar.js over a transport of their own, so states and sending are the real ones.
 */
import { uproar } from "./uproar.js";

const FAKE_POST_MS = 100;
const FAKE_WINDOW_MS = 2000;

const sum = (counts) => Object.keys(counts).reduce((total, key) => total + counts[key], 0);

function add(to, from) {
  Object.keys(from).forEach((key) => (to[key] = (to[key] || 0) + from[key]));
}

/** One room that exists only here: what was posted to it comes back in its next frame. */
class FakeRoom {
  constructor(name, now) {
    this.name = name;
    this.now = now;
    this.since = now();
    this.seq = 0;
    this.counts = Object.create(null);
    this.totals = Object.create(null);
    this.links = new Set();
    this.last = null;
  }

  publish(counts, fields) {
    add(this.counts, counts || {});
    add(this.totals, this.counts);
    const end = this.now();
    const count = sum(this.counts);
    this.last = Object.assign(
      {
        v: 1,
        room: this.name,
        seq: ++this.seq,
        since: this.since,
        window: { start: end - FAKE_WINDOW_MS, end },
        count,
        counts: this.counts,
        slots: [count],
        total: sum(this.totals),
        totals: this.totals,
      },
      fields
    );
    this.counts = Object.create(null);
    this.links.forEach((link) => link.take(JSON.stringify(this.last)));
  }

  connect(link) {
    const hello = { hello: 1, rooms: [this.name], reconnect_jitter_ms: 100, post_ms: FAKE_POST_MS };
    let isOver = false;
    Promise.resolve().then(() => {
      if (isOver) return;
      link.take(JSON.stringify(hello));
      if (this.last) link.take(JSON.stringify(this.last));
      this.links.add(link);
    });
    return () => {
      isOver = true;
      this.links.delete(link);
    };
  }
}

function fake(script, options) {
  const now = (options && options.now) || (() => Date.now());
  const rooms = new Map();
  const posts = [];
  const steps = (script || []).slice();
  let isPlaying = false;

  const roomOf = (name) => {
    if (!rooms.has(name)) rooms.set(name, new FakeRoom(name, now));
    return rooms.get(name);
  };
  const play = () => {
    const step = steps.shift();
    if (!step) return;
    setTimeout(() => {
      if (step.down) down(step.down, step.reason);
      else frame(step.counts, step.fields);
      play();
    }, step.wait_ms || 0);
  };
  const frame = (counts, fields) => rooms.forEach((room) => room.publish(counts, fields));
  const down = (code, reason) =>
    rooms.forEach((room) => Array.from(room.links).forEach((link) => link.down(code || 1006, reason || "")));
  const answer = (status, value) => {
    const text = () => Promise.resolve(JSON.stringify(value));
    return Promise.resolve({ status, headers: { get: () => null }, text });
  };
  const fetch = (url, init) => {
    const room = roomOf(url.split("/")[5]);
    if (init.method !== "POST") return answer(room.last ? 200 : 404, room.last || {});
    const reactions = JSON.parse(init.body).reactions;
    posts.push({ room: room.name, reactions });
    add(room.counts, reactions);
    return answer(202, { accepted: sum(reactions) });
  };
  const transport = (link, receiver) => {
    const stop = roomOf(receiver.room.name).connect(link);
    if (!isPlaying) play();
    isPlaying = true;
    return stop;
  };
  const client = uproar("http://fake.invalid", Object.assign({}, options, { fetch, transports: [transport] }));
  return Object.assign(client, { frame, down, posts });
}

uproar.fake = fake;

export { fake, uproar, uproar as default };
