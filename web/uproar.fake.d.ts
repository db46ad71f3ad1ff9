import type { Client, Counts, Frame, Options, Uproar } from "./uproar.js";

/** A step of a script: after `wait_ms` a frame with these counts, or a lost connection. */
export type Step =
  | { wait_ms?: number; counts?: Counts; fields?: Partial<Frame> }
  | { wait_ms?: number; down: number; reason?: string };

export interface FakeClient extends Client {
  /** Sends a frame now: these reactions, and those posted since the last. `fields` replaces fields of the frame. */
  frame(counts?: Counts, fields?: Partial<Frame>): void;
  /** Ends the connections with a close code; 1006 by default. They come back as real ones do. */
  down(code?: number, reason?: string): void;
  /** What was posted, oldest first. */
  readonly posts: { room: string; reactions: Counts }[];
}

/** A client without a server. The script starts with the first connection. */
export declare function fake(script?: Step[], options?: Pick<Options, "now" | "random">): FakeClient;

declare module "./uproar.js" {
  interface Uproar {
    /** See `fake`. */
    fake: typeof fake;
  }
}

export declare const uproar: Uproar;
export default uproar;
