/* API: uproar.d.ts. Reasons: README.md. ES2017, for televisions of 2018. */

/* Until hello says otherwise. */
const [POST_MS, JITTER_MS] = [1000, 5000];
const LIMIT_MS = 60000; // of back-off and hold
const OPEN_MS = 10000;
const STABLE_MS = 10000;
const HIDDEN_MS = 30000;
const [TAP_MS, TAPS_MAX] = [10000, 1000];
const COUNTED_MS = 90000; // outlasts a held frame
/* Per post, as the server. */
const [KINDS_MAX, COUNT_MAX] = [32, 1000];
const HELD_MAX = 600;

const root = typeof self === "object" ? self : global;
const dict = () => Object.create(null); // for keys like "__proto__"
const within = (value, low, high, otherwise) => (value >= 0 ? Math.min(Math.max(value, low), high) : otherwise);

function add(counts, key, count) {
  counts[key] = (counts[key] || 0) + count;
  return counts;
}

function parse(text) {
  try {
    return JSON.parse(text) || {};
  } catch (_) {
    return {};
  }
}

/* As the server counts. */
function fold(reaction) {
  const text = reaction.normalize("NFC");
  return text.replace(/[\uFE0E\uFE0F]|\uD83C[\uDFFB-\uDFFF]/g, "") || text;
}

/* Some browsers miss visibilitychange, but not focus. */
function isHidden() {
  const page = root.document;
  return !!page && page.hidden && !page.hasFocus();
}

/* Resolves to {status, header, body}; status 0 without an answer. */
function request(room, path, init) {
  return new Promise((resolve) => {
    const abort = root.AbortController ? new AbortController() : { abort() {} };
    const fail = () => {
      resolve({ status: 0, header: () => null });
      abort.abort();
    };
    const timer = setTimeout(fail, OPEN_MS);
    const header = (answer) => (name) => answer.headers.get(name);
    const read = (answer) =>
      answer.text().then((body) => resolve({ status: answer.status, header: header(answer), body }));
    const done = () => clearTimeout(timer);
    init.signal = abort.signal;
    room.fetch(room._url + path, init).then(read).catch(fail).then(done);
  });
}

class Sender {
  constructor(room) {
    this.room = room;
    this.now = room.now;
    this.phase = room.random(); // spreads the posts of a common moment
    this.taps = []; // {at, reaction, count, batch, done: when it was counted}
    this.repeat = null; // a batch of unknown outcome
    this.keys = 1; // 0: never; -1: not in the next post
    this.timer = 0;
  }

  tap(reaction, count) {
    const at = this.now();
    const isSame = (tap) => !tap.batch && tap.reaction === reaction && at - tap.at < POST_MS;
    const same = this.taps.find((tap) => isSame(tap) && tap.count + count <= COUNT_MAX);
    if (same) same.count += count;
    else if (this.taps.length < TAPS_MAX) this.taps.push({ at, reaction, count });
    else return false;
    this.plan();
    return true;
  }

  plan(delay = 0) {
    const isIdle = this.taps.every((tap) => tap.batch && tap.batch !== this.repeat);
    if (isIdle || this.timer || this.posting || this.room._isClosed) return;
    const period = this.room._postMs;
    const from = this.now() + delay + this.phase * period;
    this.timer = setTimeout(() => {
      this.timer = 0;
      this.post();
    }, delay + period - (from % period));
  }

  collect() {
    const counts = dict();
    const batch = {};
    this.forget();
    this.taps.forEach((tap) => {
      const before = counts[tap.reaction] || 0;
      const hasRoom = before || Object.keys(counts).length < KINDS_MAX;
      if (tap.batch || !hasRoom || before + tap.count > COUNT_MAX) return;
      add(counts, tap.reaction, tap.count);
      tap.batch = batch;
    });
    batch.body = JSON.stringify({ reactions: counts });
    return this.of(batch).length && batch;
  }

  of(batch) {
    return this.taps.filter((tap) => tap.batch === batch);
  }

  forget() {
    const age = (tap) => this.now() - (tap.done || tap.at);
    this.taps = this.taps.filter((tap) => !tap.done || age(tap) < COUNTED_MS);
    const old = this.taps.filter((tap) => !tap.done && age(tap) > TAP_MS && (!tap.batch || tap.batch === this.repeat));
    if (!old.length) return;
    if (old.some((tap) => tap.batch)) this.repeat = null;
    const limits = { status: 0, wait_ms: 0, left: null, detail: "too old" };
    this.drop(old, limits);
    this.tell(limits);
  }

  post() {
    this.forget();
    if (root.navigator && root.navigator.onLine === false) return this.plan();
    const batch = this.repeat || this.collect();
    if (!batch) return;
    if (this.keys > 0 && !this.repeat) batch.key = [1, 2].map(() => this.room.random().toString(36).slice(2)).join("");
    const init = { method: "POST", body: batch.body };
    init.keepalive = !batch.key || !!root.AggregateError; // Chromium < 81 fails with a preflight
    if (batch.key) init.headers = { "Idempotency-Key": batch.key };
    this.keys = Math.abs(this.keys);
    this.repeat = null;
    this.posting = true;
    request(this.room, "/reactions", init).then((answer) => this.answered(batch, answer));
  }

  answered(batch, { status, header, body }) {
    const taps = this.of(batch);
    const isRefused = status === 429 || status === 503;
    const wait = isRefused || status === 504 ? within(parseFloat(header("retry-after")), 0, 3600, 1) * 1000 : 0;
    const left = header("ratelimit") && dict();
    if (left) header("ratelimit").replace(/"(\w+)";r=(\d+)/g, (_, name, rest) => (left[name] = +rest));
    const limits = { status, wait_ms: wait, left, detail: parse(body).detail };
    this.posting = false;
    if (status === 202) taps.forEach((tap) => (tap.done = this.now()));
    else if (batch.key && (status === 504 || (batch.isUnsure && isRefused))) {
      batch.isUnsure = true; // a refused repeat tells nothing of the first
      this.repeat = batch;
    } else if (isRefused || (batch.key && status === 400)) {
      if (batch.key && status !== 429) this.keys = status === 400 ? 0 : -1;
      taps.forEach((tap) => (tap.batch = null));
    } else this.drop(taps, limits);
    this.plan(wait);
    if (status !== 202 || left) this.tell(limits);
  }

  drop(taps, limits) {
    this.taps = this.taps.filter((tap) => taps.indexOf(tap) < 0);
    limits.dropped = taps.reduce((counts, tap) => add(counts, tap.reaction, tap.count), dict());
  }

  tell(limits) {
    const room = this.room;
    room._emit("limits", Object.assign({ post_ms: room._postMs, dropped: null }, limits));
  }

  beacon() {
    const navigator = root.navigator;
    const batch = navigator && navigator.sendBeacon && this.collect();
    if (!batch) return;
    const isSent = navigator.sendBeacon(this.room._url + "/reactions", batch.body);
    this.of(batch).forEach((tap) => (isSent ? (tap.done = this.now()) : (tap.batch = null)));
  }

  shown(frame, skew) {
    this.taps = this.taps.filter((tap) => !tap.done || frame.window.end <= tap.done - skew);
  }
}

function socket(link, { room }) {
  const ws = new root.WebSocket(room._url.replace(/^http/, "ws") + "/live");
  ws.onmessage = (event) => link.take(event.data);
  ws.onclose = (event) => link.down(event.code, event.reason);
  return () => {
    ws.onclose = null;
    ws.close();
  };
}

/* Closed after an error, because it reconnects without jitter. */
function events(link, { room }) {
  const source = new root.EventSource(room._url + "/events");
  source.onopen = link.up;
  source.onmessage = (event) => link.take(event.data);
  source.onerror = () => link.down(0, "");
  return () => source.close();
}

function poll(link, receiver) {
  let timer;
  const look = () =>
    receiver.snapshot().then((isAnswered) => {
      if (link.isOver) return;
      if (!isAnswered) return link.down(0, "");
      timer = setTimeout(look, receiver.untilNextWindow());
      link.up();
    });
  look();
  return () => clearTimeout(timer);
}

/* A state is told last in each step, because a listener may close the room. */
class Receiver {
  constructor(room) {
    this.room = room;
    this.now = room.now;
    this.transports = room.transports || [socket, events, poll];
    this.rung = this.fails = this.trials = this.retry = this.hiddenAt = 0;
    this.conn = this.trial = null; // trial: a socket, while a fallback works
    this.jitter = JITTER_MS;
    this.skew = Infinity; // from window.end to arrival
  }

  isWanted() {
    return !this.room._isClosed && !this.room.muted && this.room._on.frame.size > 0;
  }

  update() {
    if (!this.isWanted()) {
      this.end();
      this.room._set("off", 0, this.room.muted ? "muted" : "");
    } else if (!this.conn && !this.retry) {
      if (isHidden()) return this.rest();
      this.hiddenAt = 0;
      this.conn = this.attempt(this.rung);
      this.room._set("connecting", 0, "");
    }
  }

  openIn(ms) {
    clearTimeout(this.retry);
    this.retry = setTimeout(() => {
      this.retry = 0;
      this.update();
    }, ms);
  }

  connectSoon() {
    this.openIn(this.room.random() * 1000);
    this.room._set("connecting", 0, "");
  }

  attempt(rung) {
    let stop;
    const link = {
      rung,
      up: () => {
        if (link.isOver || link.upAt) return;
        clearTimeout(deadline);
        link.upAt = this.now();
        this.up(link);
      },
      take: (text) => {
        if (link.isOver) return;
        const message = parse(text);
        if (message.hello) this.hello(message);
        link.up();
        this.frame(message);
      },
      down: (code, reason) => {
        if (link.isOver) return;
        link.end();
        this.down(link, code, reason);
      },
      end: () => {
        link.isOver = true;
        clearTimeout(deadline);
        if (stop) stop();
      },
    };
    const deadline = setTimeout(() => link.down(0, "timeout"), OPEN_MS);
    try {
      stop = this.transports[rung](link, this);
    } catch (error) {
      setTimeout(() => link.down(0, String(error)));
    }
    return link;
  }

  up(link) {
    if (link === this.trial) {
      this.conn.end();
      [this.conn, this.trial] = [link, null];
    }
    this.rung = link.rung;
    if (this.rung) this.planTrial();
    else this.trials = 0;
    this.room._set(this.transports[this.rung] === poll ? "polling" : "live", 0, "");
  }

  planTrial() {
    const cap = LIMIT_MS * Math.min(2 ** this.trials++, 10);
    clearTimeout(this.trialTimer);
    this.trialTimer = setTimeout(() => {
      this.trial = this.attempt(0);
    }, (cap * (1 + this.room.random())) / 2);
  }

  hello(hello) {
    this.room.hello = hello;
    this.jitter = within(hello.reconnect_jitter_ms, 100, LIMIT_MS, JITTER_MS);
    this.room._postMs = within(hello.post_ms, 100, LIMIT_MS, POST_MS);
  }

  down(link, code, reason) {
    if (link === this.trial) {
      this.trial = null;
      return this.planTrial();
    }
    const hasFallback = this.rung < this.transports.length - 1;
    this.end();
    if (link.upAt && this.now() - link.upAt >= STABLE_MS) this.fails = 0;
    if (code === 1008) this.room._close(code, reason);
    else if (isHidden()) this.rest();
    else if (code === 1013) {
      this.rung = this.transports.length - 1;
      this.connectSoon();
    } else if (!link.upAt && hasFallback) this.probe(code, reason);
    else {
      if (this.fails > 1 && hasFallback) this.rung++;
      this.backOff(code, reason);
    }
  }

  probe(code, reason) {
    const probe = (this.conn = { end() {} });
    this.snapshot().then((isAnswered) => {
      if (this.conn !== probe) return;
      this.conn = null;
      if (!isAnswered) return this.backOff(code, reason);
      this.rung++;
      this.connectSoon();
    });
  }

  backOff(code, reason) {
    this.openIn(this.room.random() * Math.min(this.jitter * 2 ** this.fails, LIMIT_MS));
    if (code !== 1012) this.fails++;
    this.room._set("away", code, reason);
  }

  end() {
    [this.retry, this.trialTimer].forEach(clearTimeout);
    [this.conn, this.trial].forEach((link) => link && link.end());
    this.retry = 0;
    this.conn = this.trial = null;
  }

  snapshot() {
    return request(this.room, "", {}).then(({ status, body }) => {
      if (status === 200) this.frame(parse(body));
      return status > 0 && status < 500 && status !== 429;
    });
  }

  untilNextWindow() {
    const { start, end } = this.last ? this.last.window : { start: 0, end: 2000 };
    const length = within(end - start, 1000, LIMIT_MS);
    const late = Math.min(this.skew, 200); // a poll is late by itself
    const passed = Math.max(this.now() - end - late, 0) % length;
    return length - passed + (this.room.random() * length) / 2;
  }

  frame(frame) {
    if (frame.v !== 1 || !frame.window || !this.isWanted()) return;
    const lead = this.last && (frame.since - this.last.since || frame.seq - this.last.seq);
    if (lead < 0 || (lead === 0 && frame.state === this.last.state)) return;
    this.last = frame;
    this.skew = Math.min(this.now() - frame.window.end, this.skew + 10); // clocks drift
    this.room._hold.push(frame);
  }

  listen(method) {
    const each = (target, types) => target && target[method] && types.forEach((type) => target[method](type, this));
    each(root, ["pagehide", "pageshow", "focus", "online"]);
    each(root.document, ["visibilitychange", "resume"]);
  }

  handleEvent({ type }) {
    const isLeft = type === "pagehide"; // perhaps into the back/forward cache
    const isGone = isLeft || (type === "visibilitychange" && isHidden());
    if (isGone) this.room._sender.beacon();
    if (isLeft) this.rest();
    else if (isGone) this.hide();
    else if (type === "online" && this.retry && !isHidden()) this.connectSoon();
    else this.wake();
  }

  rest() {
    this.end();
    this.hiddenAt = this.hiddenAt || this.now();
    if (!this.isWanted()) return;
    this.openIn(10000); // if no event tells of the return
    this.room._set("away", 0, "hidden");
  }

  hide() {
    this.hiddenAt = this.hiddenAt || this.now();
    this.hideTimer = setTimeout(() => isHidden() && this.rest(), HIDDEN_MS);
  }

  /* At any sign of a visible page: no browser gives them all. */
  wake() {
    if (!this.hiddenAt || isHidden()) return;
    const isLong = this.now() - this.hiddenAt >= HIDDEN_MS;
    clearTimeout(this.hideTimer);
    this.hiddenAt = 0;
    if (!this.isWanted() || (this.conn && this.conn.upAt && !isLong)) return;
    this.end();
    this.snapshot();
    this.connectSoon();
  }
}

class Hold {
  constructor(room) {
    this.room = room;
    this.held = [];
  }

  push(frame) {
    this.held.push({ frame, at: this.room.now() });
    if (this.held.length > HELD_MAX) this.held.shift();
    this.release();
  }

  /* Ms until the player is there; 0 if its clock can't be believed. */
  wait({ frame, at }) {
    let time;
    try {
      time = this.clock && this.clock.now();
    } catch (_) {}
    const wait = time ? frame.window.end - time : 0;
    return wait > 0 && wait <= LIMIT_MS && this.room.now() - at < LIMIT_MS ? wait : 0;
  }

  /* Only the newest that is due: its totals hold the others. */
  release() {
    let due;
    clearTimeout(this.timer);
    while (this.held.length && !this.wait(this.held[0])) due = this.held.shift().frame;
    if (this.held.length) this.timer = setTimeout(() => this.release(), within(this.wait(this.held[0]), 10, 250));
    if (due) this.room._show(due);
  }

  clear() {
    clearTimeout(this.timer);
    this.held = [];
  }
}

class Room {
  constructor(name, server, options) {
    const real = { now: () => Date.now(), random: Math.random, fetch: (...args) => root.fetch(...args) };
    Object.assign(this, real, options, { name, state: "off", frame: null, hello: null, muted: false });
    this._url = server + "/v1/rooms/" + name;
    this._postMs = POST_MS;
    this._on = { frame: new Set(), state: new Set(), limits: new Set(), tap: new Set() };
    this._tones = new Map();
    this._hold = new Hold(this);
    this._sender = new Sender(this);
    this._receiver = new Receiver(this);
    this._receiver.listen("addEventListener");
  }

  react(reaction, count = 1) {
    const isReaction = reaction && typeof reaction === "string" && count >= 1 && count <= COUNT_MAX;
    if (this._isClosed || !isReaction || (this.frame || {}).state === "closed") return false;
    this._receiver.wake();
    if (!this._sender.tap(reaction, Math.floor(count))) return false;
    const key = fold(reaction);
    if (this._tones.size < TAPS_MAX) this._tones.set(key, reaction);
    this._emit("tap", { reaction, key, count });
    return true;
  }

  get mine() {
    return this._sender.taps.reduce((counts, tap) => add(counts, fold(tap.reaction), tap.count), dict());
  }

  display(reaction) {
    return this._tones.get(fold(reaction)) || reaction;
  }

  on(type, listener) {
    const listeners = this._on[type];
    if (!listeners) throw new TypeError(`no event "${type}": frame, state, limits or tap`);
    const tell = (event) => listener(event);
    listeners.add(tell);
    this._receiver.update();
    return () => {
      listeners.delete(tell);
      this._receiver.update();
    };
  }

  mute(isMuted = true) {
    this.muted = isMuted;
    if (isMuted) this._hold.clear();
    this._receiver.update();
  }

  sync(clock) {
    this._hold.clock = clock;
    this._hold.release();
  }

  close() {
    this._close(0, "closed by the app");
  }

  _close(code, reason) {
    if (this._isClosed) return;
    this._receiver.listen("removeEventListener");
    this._sender.beacon();
    this._hold.clear();
    this._isClosed = true;
    [this._sender.timer, this._receiver.hideTimer].forEach(clearTimeout);
    this._receiver.end();
    this._set("closed", code, reason);
  }

  _set(state, code, reason) {
    const why = state + code + reason;
    if ((this._isClosed && state !== "closed") || why === (this._why || "off0")) return;
    this._why = why;
    this.state = state;
    this._emit("state", { state, code, reason });
  }

  _show(frame) {
    this.frame = frame;
    this._sender.shown(frame, this._receiver.skew);
    this._emit("frame", frame);
  }

  /* A listener that throws must not stop the others. */
  _emit(type, value) {
    Array.from(this._on[type]).forEach((tell) => {
      try {
        tell(value);
      } catch (error) {
        setTimeout(() => {
          throw error;
        });
      }
    });
  }

  [Symbol.asyncIterator || "frames"]() {
    let [taken, isOver] = [this.frame];
    let wake = () => {};
    const offs = ["state", "frame"].map((type) => this.on(type, () => wake()));
    const next = () => {
      const isNew = this.frame !== taken && !isOver;
      taken = this.frame;
      if (isNew) return Promise.resolve({ value: taken, done: false });
      if (isOver || this._isClosed) return Promise.resolve({ value: undefined, done: true });
      return new Promise((resolve) => (wake = resolve)).then(next);
    };
    const end = () => {
      isOver = true;
      offs.forEach((off) => off());
      wake();
      return next();
    };
    return { next, return: end };
  }
}

function uproar(server, options = {}) {
  const base = new URL(server || "/", root.location && root.location.href).href.replace(/\/+$/, "");
  return {
    room(name) {
      if (/^(?!\.\.?$)[\w.~-]{1,64}$/.test(name || "")) return new Room(name, base, options);
      throw new TypeError(JSON.stringify(name) + " is no room: use 1 to 64 of A-Z a-z 0-9 . _ ~ -");
    },
  };
}

uproar.fold = fold;

export { uproar, uproar as default };
