// The overlay: nothing but the stage on a transparent page, for a browser source in OBS or vMix.
// Query: skin=swarm|bars|cards|counters, scale=0.5..4, top=1..20, motion=1 (moves even where the system asks for calm).

import { uproar } from "../uproar.js";
import { createStage } from "../stage.js";

const query = new URLSearchParams(location.search);

function number(name, least, most, usual) {
  const value = parseFloat(query.get(name));
  return value >= least && value <= most ? value : usual;
}

const scale = number("scale", 0.5, 4, 1);
const options = { skin: query.get("skin") || "swarm", scale, top: number("top", 1, 20, 8) };
if (query.get("motion")) options.motion = query.get("motion") !== "0";
document.documentElement.style.setProperty("--scale", scale);

function roomOfAddress() {
  const found = /^\/overlay\/([^/]+)\/?$/.exec(location.pathname);
  try {
    return decodeURIComponent(found[1]);
  } catch (error) {
    // Not UTF-8, or not percent-encoded right: it is no room either way.
    return location.pathname;
  }
}

const name = roomOfAddress();
document.title = name + " · Uproar overlay";
try {
  const room = uproar(location.origin).room(name);
  // A source that its scene hides is a hidden page: it pauses, and has the newest frame when it is shown again.
  room.on("frame", createStage(document.getElementById("stage"), options).show);
} catch (error) {
  document.getElementById("stage").textContent = error.message;
}
