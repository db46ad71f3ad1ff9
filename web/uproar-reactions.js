// <uproar-reactions server="https://live.example.com" room="final"></uproar-reactions>
//
// The stage and a bar of reactions as one element, for any page. docs/web.md describes its attributes, parts, variables and events.
//
// ES2017. It depends only on uproar.js and stage.js.

import { uproar } from "./uproar.js";
import { createStage, isShortCode } from "./stage.js";

const REACTIONS = ["❤️", "🔥", "👏", "😂", "😮", "😢"];
/** A screen reader is told the room's counts at most this often, in ms. */
const TELL_EVERY_MS = 10000;
/** A refusal is shown for this long, in ms. */
const NOTE_MS = 4000;

/** Sprites of one call of `room.react`. */
const SHOWN_TAPS_MAX = 10;

const WORDS = {
  connecting: "Connecting…",
  away: "Reconnecting…",
  closed: "Reactions are closed.",
  refused: "You can't react here.",
  slow: "Slow down a little.",
};

class UproarReactions extends HTMLElement {
  static get observedAttributes() {
    return ["server", "room", "skin", "theme", "reactions", "readonly"];
  }

  connectedCallback() {
    if (!this.shadowRoot) this._build();
    this._start();
  }

  disconnectedCallback() {
    this._stop();
  }

  attributeChangedCallback(name, before, after) {
    // Frameworks may set attributes after they have put the element into the page.
    if (before === after || !this.isConnected || !this.shadowRoot) return;
    if (name !== "skin" && name !== "theme") this._start();
    else if (name === "skin" && this.stage) this.stage.skin = after;
  }

  /** The server's address. */
  get server() {
    return (this.getAttribute("server") || location.origin).replace(/\/+$/, "");
  }

  _build() {
    const root = this.attachShadow({ mode: "open" });
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = this.getAttribute("stylesheet") || this.server + "/uproar-reactions.css";
    const make = (tag, part) => {
      const element = document.createElement(tag);
      element.className = part;
      element.setAttribute("part", part);
      return element;
    };
    this._frame = make("div", "frame");
    this._stage = make("div", "stage");
    this._note = make("p", "note");
    this._note.setAttribute("role", "status");
    this._bar = make("div", "bar");
    this._bar.setAttribute("role", "group");
    this._bar.setAttribute("aria-label", "React");
    this._told = make("p", "told");
    this._told.setAttribute("aria-live", "polite");
    for (const part of [this._stage, this._note, this._bar, this._told]) this._frame.appendChild(part);
    // Without its style sheet the element would show its parts without any order for a moment.
    this._frame.hidden = true;
    style.onload = style.onerror = () => {
      this._frame.hidden = false;
      if (this.stage) this.stage.skin = this.getAttribute("skin") || "swarm";
    };
    root.appendChild(style);
    root.appendChild(this._frame);
  }

  _start() {
    this._stop();
    this._say("");
    const name = this.getAttribute("room");
    if (!name) return;
    let room;
    try {
      room = uproar(this.server).room(name);
    } catch (error) {
      this._say(error.message);
      return;
    }
    this.room = room;
    this.stage = createStage(this._stage, { skin: this.getAttribute("skin") || "swarm" });
    this._shown = undefined;
    this._showBar();
    this._offs = [
      room.on("frame", frame => this._onFrame(frame)),
      room.on("state", state => this._onState(state)),
      room.on("limits", limits => this._onLimits(limits)),
      // Also the taps that the page around the element makes with `element.room`.
      room.on("tap", tap => this._onTap(tap)),
    ];
    this._onState({ state: room.state });
  }

  _stop() {
    if (!this.room) return;
    for (const off of this._offs) off();
    this.room.close();
    this.stage.destroy();
    this.room = this.stage = null;
  }

  _onFrame(frame) {
    this.stage.show(frame);
    const isClosed = frame.state === "closed";
    if (isClosed !== this._bar.classList.contains("closed")) this._say(isClosed ? WORDS.closed : "");
    this._bar.classList.toggle("closed", isClosed);
    for (const button of this._bar.children) button.disabled = isClosed;
    this._tell(frame);
    this.dispatchEvent(new CustomEvent("frame", { detail: frame }));
  }

  _onState(change) {
    const hello = this.room.hello;
    const own = hello && hello.settings && hello.settings[this.room.name];
    const catalogue = (own && own.catalogue) || (hello && hello.catalogue);
    if (catalogue && catalogue.length) this._showBar(catalogue);
    this._say(this._words(change.state));
    this.dispatchEvent(new CustomEvent("state", { detail: change }));
  }

  _onTap(tap) {
    for (let i = 0; i < Math.min(tap.count, SHOWN_TAPS_MAX); i++) this.stage.tap(tap.reaction);
  }

  /** Taps were refused or dropped: says why, where the server did. */
  _onLimits(limits) {
    if (limits.status === 202) return;
    if (limits.dropped && limits.status >= 400) this._say(limits.detail || WORDS.refused);
    else if (limits.status === 429) this._say(WORDS.slow);
    clearTimeout(this._noteTimer);
    this._noteTimer = setTimeout(() => this._say(this.room ? this._words(this.room.state) : ""), NOTE_MS);
  }

  /** What is to be said of a connection, else of the room. */
  _words(state) {
    return WORDS[state] || (this._bar.classList.contains("closed") ? WORDS.closed : "");
  }

  /** Makes a button for each reaction: of the catalogue, else of the attribute, else the usual six. */
  _showBar(catalogue) {
    const shown = JSON.stringify(catalogue || null);
    if (shown === this._shown && this._bar.firstChild) return;
    this._shown = shown;
    const listed = (this.getAttribute("reactions") || "").split(/\s+/).filter(Boolean);
    const reactions = catalogue && catalogue.length ? catalogue : listed.length ? listed : REACTIONS;
    this._bar.hidden = this.hasAttribute("readonly");
    this._bar.textContent = "";
    for (const entry of reactions) {
      const reaction = typeof entry === "string" ? entry : entry.reaction;
      const button = document.createElement("button");
      button.type = "button";
      button.className = isShortCode(reaction) ? "button code" : "button";
      button.setAttribute("part", "button");
      button.dir = "auto";
      button.textContent = reaction;
      button.disabled = this._bar.classList.contains("closed");
      if (entry.image) {
        const image = new Image();
        image.src = entry.image;
        image.alt = reaction;
        button.textContent = "";
        button.appendChild(image);
      }
      if (entry.name) button.setAttribute("aria-label", entry.name);
      button.addEventListener("click", () => this._react(reaction, button));
      this._bar.appendChild(button);
    }
  }

  _react(reaction, button) {
    if (!this.room) return;
    this.room.react(reaction);
    // Restarts the animation of a button that is tapped again before it ended.
    button.classList.remove("tapped");
    void button.offsetWidth;
    button.classList.add("tapped");
  }

  _say(words) {
    this._note.textContent = words;
    this._note.hidden = !words;
  }

  /** Tells a screen reader the most frequent reactions, seldom enough not to disturb. */
  _tell(frame) {
    const now = Date.now();
    if (!frame.count || now - (this._toldAt || 0) < TELL_EVERY_MS) return;
    this._toldAt = now;
    const counts = frame.counts || {};
    const most = Object.keys(counts).sort((a, b) => counts[b] - counts[a]).slice(0, 3);
    this._told.textContent = frame.count.toLocaleString() + " reactions: " + most.map(name => name + " " + counts[name]).join(", ");
  }
}

if (!customElements.get("uproar-reactions")) customElements.define("uproar-reactions", UproarReactions);

export { UproarReactions };
