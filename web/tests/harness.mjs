// A browser of our own: time, sockets and the page are in the hands of the test.
import { after, before } from "node:test";

export const START = 1_800_000_000_000;

const real = { setTimeout, clearTimeout, setImmediate };
const settle = () => new Promise((resolve) => real.setImmediate(resolve));

class Clock {
  constructor() {
    this.now = START;
    this.timers = [];
    this.next = 1;
  }

  set(run, ms = 0) {
    const id = this.next++;
    this.timers.push({ id, at: this.now + Math.max(ms, 0), run });
    return id;
  }

  clear(id) {
    this.timers = this.timers.filter((timer) => timer.id !== id);
  }

  /** Runs what is due, in order, and lets promises settle in between. */
  async advance(ms) {
    const end = this.now + ms;
    await settle();
    for (;;) {
      const due = this.timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at || a.id - b.id)[0];
      if (!due) break;
      this.clear(due.id);
      this.now = due.at;
      due.run();
      await settle();
    }
    this.now = end;
    await settle();
  }

  /** Time passes while the page is frozen: timers run late, all at once, when it goes on. */
  freeze(ms) {
    this.now += ms;
  }
}

class FakeSocket {
  constructor(url) {
    this.url = url;
    this.isOpen = true;
    browser.sockets.push(this);
  }
  hello(fields) {
    this.send({ hello: 1, rooms: ["final"], reconnect_jitter_ms: 5000, ...fields });
  }
  send(message) {
    this.onmessage({ data: typeof message === "string" ? message : JSON.stringify(message) });
  }
  drop(code = 1006, reason = "") {
    this.isOpen = false;
    if (this.onclose) this.onclose({ code, reason });
  }
  close() {
    this.isOpen = false;
  }
}

class FakeEvents {
  constructor(url) {
    this.url = url;
    this.isOpen = true;
    browser.streams.push(this);
  }
  close() {
    this.isOpen = false;
  }
}

class Page extends EventTarget {
  hidden = false;
  focused = false;
  hasFocus() {
    return this.focused;
  }
}

/** What the tests see and steer. */
export const browser = {
  reset() {
    this.clock = new Clock();
    this.page = new Page();
    this.window = new EventTarget();
    this.sockets = [];
    this.streams = [];
    this.beacons = [];
    this.requests = [];
    this.navigator = {
      onLine: true,
      sendBeacon: (url, body) => {
        this.beacons.push({ url, ...JSON.parse(body) });
        return true;
      },
    };
    /** Answers a request: {status, headers, body}, a promise of that, or an Error. */
    this.onPost = () => ({ status: 202, body: { accepted: 1 } });
    this.onGet = () => ({ status: 404 });
  },
  get socket() {
    return this.sockets[this.sockets.length - 1];
  },
  get stream() {
    return this.streams[this.streams.length - 1];
  },
  get posts() {
    return this.requests.filter((request) => request.method === "POST");
  },
  get gets() {
    return this.requests.filter((request) => request.method !== "POST");
  },
  advance(ms) {
    return this.clock.advance(ms);
  },
  hide() {
    this.page.hidden = true;
    this.page.dispatchEvent(new Event("visibilitychange"));
  },
  show() {
    this.page.hidden = false;
    this.page.dispatchEvent(new Event("visibilitychange"));
  },
  fire(type) {
    this.window.dispatchEvent(new Event(type));
  },
};

async function answer(url, init) {
  const isPost = init.method === "POST";
  const request = { url, method: init.method || "GET", at: browser.clock.now, headers: init.headers || {}, ...init };
  if (isPost) request.reactions = JSON.parse(init.body).reactions;
  browser.requests.push(request);
  const given = await (isPost ? browser.onPost(request) : browser.onGet(request));
  if (given instanceof Error) throw given;
  const headers = given.headers || {};
  const body = given.body === undefined ? "" : JSON.stringify(given.body);
  return { status: given.status, headers: { get: (name) => headers[name] ?? null }, text: async () => body };
}

/** Puts the browser in place for the tests of a file. */
export function install() {
  const names = ["setTimeout", "clearTimeout", "WebSocket", "EventSource", "fetch", "document", "navigator"];
  names.push("addEventListener", "removeEventListener");
  const saved = names.map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]);
  const put = (name, value) =>
    Object.defineProperty(globalThis, name, { configurable: true, writable: true, ...value });
  before(() => {
    browser.reset();
    put("setTimeout", { value: (run, ms) => browser.clock.set(run, ms) });
    put("clearTimeout", { value: (id) => browser.clock.clear(id) });
    put("WebSocket", { value: FakeSocket });
    put("EventSource", { value: FakeEvents });
    put("fetch", { value: answer });
    put("addEventListener", { value: (...args) => browser.window.addEventListener(...args) });
    put("removeEventListener", { value: (...args) => browser.window.removeEventListener(...args) });
    for (const [name, get] of [["document", () => browser.page], ["navigator", () => browser.navigator]]) {
      Object.defineProperty(globalThis, name, { configurable: true, get });
    }
  });
  after(() => {
    for (const [name, descriptor] of saved) {
      if (descriptor) Object.defineProperty(globalThis, name, descriptor);
      else delete globalThis[name];
    }
  });
}

let seq = 0;

/** A frame of the room, with a window that ends now. */
export function frame(fields = {}) {
  const end = fields.end ?? browser.clock.now;
  seq += 1;
  const counts = fields.counts || { "🔥": 1 };
  return {
    v: 1, room: "final", seq, since: START, window: { start: end - 2000, end },
    count: 1, counts, slots: [1, 0, 0, 0], total: seq, totals: counts, ...fields,
  };
}

/** A client whose time is the clock's, and whose dice always show the same. */
export const options = (random = 0.5) => ({ now: () => browser.clock.now, random: () => random });

/** A room that somebody watches, with what its listeners were told. */
export function watch(uproar, extra = {}) {
  const room = uproar("https://live.example.com", { ...options(), ...extra }).room("final");
  const seen = { room, frames: [], states: [], limits: [], taps: [] };
  room.on("state", (state) => seen.states.push(state));
  room.on("limits", (limits) => seen.limits.push(limits));
  room.on("tap", (tap) => seen.taps.push(tap));
  seen.off = room.on("frame", (one) => seen.frames.push(one));
  return seen;
}
