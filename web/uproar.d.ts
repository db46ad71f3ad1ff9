/** Reactions by name with their numbers, as in `{"🔥": 7}`. */
export type Counts = { [reaction: string]: number };

/** What a window of the room was, and its totals. A newer server may send more fields. */
export interface Frame {
  /** Version of the format. */
  v: 1;
  room: string;
  /** Number of the frame in the room's life, from 1; 0 before its first reaction. A gap was skipped; the totals hold it. */
  seq: number;
  /** When the room's life began, ms since the epoch. A later life starts `seq` and the totals again. */
  since: number;
  /** The time covered, ms since the epoch, by the server's clock. */
  window: { start: number; end: number };
  /** Reactions in the window. */
  count: number;
  /** The most frequent reactions of the window. */
  counts: Counts;
  /** `count` spread over equal slices of the window, so that an animation can flow. */
  slots: number[];
  /** Reactions since `since`. */
  total: number;
  /** The most frequent reactions since `since`. */
  totals: Counts;
  /** Number of viewers, where the server counts them. */
  viewers?: number;
  /** Reactions of the window that the room does not count by name. */
  others?: number;
  /** The same since `since`. */
  others_total?: number;
  /** `closed` while the operator has the room closed: posts are refused. The same `seq` comes again when it changes. */
  state?: "closed";
  [field: string]: unknown;
}

/** A reaction that a room offers. */
export interface CatalogueEntry {
  reaction: string;
  name?: string;
  /** An https URL. */
  image?: string;
}

/** The server's greeting on a WebSocket. */
export interface Hello {
  hello: 1;
  rooms: string[];
  reconnect_jitter_ms: number;
  /** At most one post in this time. Default: 1000. */
  post_ms?: number;
  /** The reactions that the room allows, where there is such a list. */
  catalogue?: unknown;
  /** What operators ordered of these rooms: their own interval, and reactions with names and images. */
  settings?: { [room: string]: { post_ms?: number; catalogue?: CatalogueEntry[] } };
  [field: string]: unknown;
}

/**
 * - `off`: there is no connection, because nobody listens to "frame", or the viewer muted the room.
 * - `connecting`: a connection is being made, the first one or another one.
 * - `live`: frames come over a WebSocket or server-sent events, as soon as their window has ended.
 * - `polling`: the newest frame is asked for once a window, because no connection is to be had. A socket is tried later.
 * - `away`: there is no connection. The room comes back by itself: after a wait, or when the page is seen again.
 * - `closed`: the app closed the room, or the server refused the viewer for good (1008). It never comes back.
 */
export type State = "off" | "connecting" | "live" | "polling" | "away" | "closed";

export interface StateEvent {
  state: State;
  /** WebSocket close code that led to the state: 1012 the server went away, 1006 the connection broke. 0 without one. */
  code: number;
  /** In English, for a log: the server's reason, "hidden", "muted", "timeout" or "closed by the app". */
  reason: string;
}

/** What became of a post, if there is something to tell. */
export interface LimitsEvent {
  /** HTTP status of the post. 0: no answer, or it was never posted. */
  status: number;
  /** The next post goes after this. Use it to show a pause. */
  wait_ms: number;
  /** The room posts at most once in this time. */
  post_ms: number;
  /** What the server's limits leave to this viewer, where there are limits. */
  left: { requests?: number; reactions?: number } | null;
  /** The server's reason. */
  detail?: string;
  /** Taps that were given up: refused, too old, or of unknown outcome. `mine` no longer has them. */
  dropped: Counts | null;
}

/** A tap of this viewer, at once. */
export interface TapEvent {
  /** As tapped, with the viewer's skin tone. */
  reaction: string;
  /** As `mine` names it: `uproar.fold(reaction)`. */
  key: string;
  count: number;
}

export interface RoomEvents {
  frame: Frame;
  state: StateEvent;
  limits: LimitsEvent;
  tap: TapEvent;
}

export interface Room {
  readonly name: string;
  readonly state: State;
  /** The newest frame that was shown. */
  readonly frame: Frame | null;
  /** The newest hello; `null` before it, and over other transports. */
  readonly hello: Hello | null;
  readonly muted: boolean;
  /** Own taps that no shown frame contains yet, by folded reaction. Add them to the totals that you show. */
  readonly mine: Counts;

  /**
   * Reacts, `count` times (1 to 1,000). Returns at once: taps are summed and posted together.
   * `false`: not taken, because the room is closed, too many taps wait, or the arguments are wrong.
   */
  react(reaction: string, count?: number): boolean;

  /** Listens. The room is connected while somebody listens to "frame". Returns how to stop listening. */
  on<T extends keyof RoomEvents>(type: T, listener: (event: RoomEvents[T]) => void): () => void;

  /** The viewer wants to see no reactions: nothing is received until `mute(false)`. Reacting still works. */
  mute(isMuted?: boolean): void;

  /**
   * Spoiler-safe: a frame is held until the player's media time has reached the end of its window, 60 s at most.
   * `now` returns ms since the epoch or a Date, such as `() => hls.playingDate` of hls.js. Where it returns nothing, or is
   * more than 60 s behind a frame, the frame is shown now. `sync(null)` ends it.
   */
  sync(clock: { now(): number | Date | null | undefined } | null): void;

  /** The reaction in the form (skin tone) in which this viewer tapped it last; otherwise as it is. */
  display(reaction: string): string;

  /** For ever. Pending taps are sent. */
  close(): void;

  /** The frames. A slow loop gets the newest. Leaving the loop stops listening; closing the room ends the loop. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Frame>;
}

export interface Client {
  /** A room of this server; each call makes one. Throws a TypeError where the name is none. */
  room(name: string): Room;
}

/** For tests: each part can be replaced. */
export interface Options {
  /** Ms since the epoch. */
  now?: () => number;
  /** As Math.random. */
  random?: () => number;
  fetch?: typeof fetch;
}

export interface Uproar {
  /** @param server such as "https://live.example.com". Default: the page's own. */
  (server?: string, options?: Options): Client;
  /** The form that the server counts by: NFC, without presentation selectors and skin tones. */
  fold(reaction: string): string;
}

export declare const uproar: Uproar;
export default uproar;
