import type { Frame, Room, StateEvent } from "./uproar.js";
import type { Stage } from "./stage.js";

/** The element <uproar-reactions>. Importing the module defines it. */
export class UproarReactions extends HTMLElement {
  /** The server's address: the attribute, or the page's own origin. */
  readonly server: string;
  /** The room, while the element is in a page and its attribute `room` names one. */
  readonly room: Room | null;
  readonly stage: Stage | null;
  addEventListener(
    type: "frame",
    listener: (event: CustomEvent<Frame>) => void,
    options?: boolean | AddEventListenerOptions
  ): void;
  addEventListener(
    type: "state",
    listener: (event: CustomEvent<StateEvent>) => void,
    options?: boolean | AddEventListenerOptions
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions
  ): void;
}

declare global {
  interface HTMLElementTagNameMap {
    "uproar-reactions": UproarReactions;
  }
}
