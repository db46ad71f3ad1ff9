import type { Frame } from "./uproar.js";

export type Skin = "swarm" | "bars" | "cards" | "counters";

export interface StageOptions {
  /** Default: swarm. Where the system asks for less motion, a swarm is shown as counters. */
  skin?: Skin;
  /** Of the sprites. Default: 1. */
  scale?: number;
  /** Addresses of pictures by reaction, to be drawn instead of its text. */
  pictures?: { [reaction: string]: string };
  /** Rows of the skins other than swarm. Default: 8. */
  top?: number;
  /** Whether the stage may move. Default: as the system asks. */
  motion?: boolean;
  /** For tests: ms, as performance.now(). */
  now?: () => number;
  /** For tests: as Math.random(). */
  random?: () => number;
}

export interface Stage {
  /** Shows a frame: the reactions of its window, spread over the time until the next one. */
  show(frame: Frame): void;
  /** Shows an own tap. */
  tap(reaction: string): void;
  /** The skin in use. An unknown name is swarm. */
  skin: Skin;
  /** Sprites in the air, the most that may be, and how many were left out. */
  readonly stats: { live: number; budget: number; dropped: number };
  /** Removes the stage from its element. */
  destroy(): void;
}

/** Puts a stage into the element, which has to have a size. */
export function createStage(element: Element, options?: StageOptions): Stage;

/** Whether a reaction is written in plain letters. Everything else is drawn in the colour font. */
export function isShortCode(reaction: string): boolean;

/** How many sprites stand for `count` reactions of a window. */
export function spritesFor(count: number, windowMs: number): number;

/** When the sprites of a frame start, in ms from the start of the window, by time. */
export function plan(
  frame: Partial<Frame>,
  sprites: number,
  random: () => number
): { at: number; reaction: string }[];

/** Counts less the viewer's own taps, and the taps that later frames will bring. */
export function withoutOwn(
  counts: { [reaction: string]: number },
  taps: { reaction: string; at: number }[],
  now: number
): [{ [reaction: string]: number }, { reaction: string; at: number }[]];
