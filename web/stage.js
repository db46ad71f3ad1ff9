// The stage draws the reactions of a crowd: they float up as a swarm, or stand as bars, cards or counters.
//
//   const stage = createStage(element, { skin: "swarm" });
//   room.on("frame", stage.show);
//   stage.tap("🔥");                   // the viewer's own tap, at once
//   stage.destroy();
//
// ES2017, no dependencies. The stage draws nothing while the page is hidden, and runs no timer while nothing moves.

/** Reactions whose picture is kept. Beyond it all of them are drawn again. */
const PICTURES_MAX = 64;
/** Sprites that wait for their moment. Beyond it the earliest are dropped. */
const WAITING_MAX = 600;
/** A sprite's life, in ms: the shortest, and how much longer the longest is. */
const LIFE_MS = 2600;
const LIFE_SPREAD_MS = 1600;
/** The side of a sprite, in CSS pixels, at scale 1. */
const SIDE = 40;
/** Reactions per second up to which each one is drawn. Beyond it the swarm grows with the logarithm. */
const ONE_EACH = 12;
/** Slower pictures than this, in ms, shrink the budget of sprites; faster ones let it grow. */
const SLOW_MS = 26;
const FAST_MS = 19;
/** An own tap is taken off the crowd's frames for this long, in ms, so that the viewer does not see it twice. */
const OWN_MS = 10000;
const OWN_MAX = 200;

const EMOJI_FONT = '"Apple Color Emoji","Segoe UI Emoji","Noto Color Emoji",sans-serif';
const SKINS = ["swarm", "bars", "cards", "counters"];

/* A reaction may have the name of an object's member, such as "constructor". */
const dict = from => Object.assign(Object.create(null), from);
const sumOf = numbers => numbers.reduce((sum, n) => sum + n, 0);
/* As the server counts: without presentation selectors and skin tones. */
const fold = reaction => reaction.replace(/[\uFE0E\uFE0F]|\uD83C[\uDFFB-\uDFFF]/g, "") || reaction;

/**
 * Puts a stage into `element`. Options: `skin` (swarm, bars, cards, counters), `scale` (of the sprites, 1), `pictures`
 * ({reaction: URL}), `top` (rows of the other skins, 8), and for tests `now`, `random`, `motion` (false: reduced).
 */
export function createStage(element, options) {
  const settings = Object.assign(
    { skin: "swarm", scale: 1, top: 8, now: () => performance.now(), random: Math.random },
    options
  );
  settings.pictures = dict(settings.pictures);
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let view = null;
  let last = null;

  function skin() {
    const wanted = SKINS.indexOf(settings.skin) < 0 ? "swarm" : settings.skin;
    const moves = settings.motion === undefined ? !still.matches : settings.motion;
    return wanted === "swarm" && !moves ? "counters" : wanted;
  }

  function rebuild() {
    if (view) view.destroy();
    view = skin() === "swarm" ? swarm(element, settings) : list(element, skin(), settings);
    if (last && view.restore) view.restore(last);
  }

  // Safari 12 knows no addEventListener on media queries.
  still.addListener(rebuild);
  rebuild();

  return {
    /** Shows a frame: its window's reactions, spread over the length of the next window. */
    show(frame) {
      last = frame;
      view.show(frame);
    },
    /** Shows an own tap. */
    tap(reaction) {
      view.tap(reaction);
    },
    /** Changes the skin. */
    set skin(name) {
      settings.skin = name;
      rebuild();
    },
    get skin() {
      return skin();
    },
    /** Sprites in the air, the most that may be, and how many were left out, for measurements. */
    get stats() {
      return view.stats ? view.stats() : { live: 0, budget: 0, dropped: 0 };
    },
    /** Removes the stage from its element. */
    destroy() {
      still.removeListener(rebuild);
      view.destroy();
    },
  };
}

/** Whether a reaction is written in plain letters. Everything else is drawn in the colour font. */
export function isShortCode(reaction) {
  return /^[\x20-\x7e]+$/.test(reaction);
}

/** How many sprites stand for `count` reactions of a window of `windowMs`. */
export function spritesFor(count, windowMs) {
  const seconds = windowMs / 1000;
  const each = ONE_EACH * seconds;
  return count <= each ? count : Math.round(each + 9 * seconds * Math.log2(count / each));
}

/** When in the window and as what the sprites of a frame appear: [{at, reaction}], by time in ms from its start. */
export function plan(frame, sprites, random) {
  const windowMs = lengthOf(frame);
  const slots = frame.slots && frame.slots.length ? frame.slots : [1];
  const names = Object.keys(frame.counts || {});
  const inSlots = sumOf(slots) || 1;
  const named = sumOf(names.map(name => frame.counts[name]));
  const moments = [];
  for (const reaction of names) {
    const share = Math.max(1, Math.round((sprites * frame.counts[reaction]) / named));
    for (let i = 0; i < Math.min(share, frame.counts[reaction]); i++) {
      let left = random() * inSlots;
      let slot = 0;
      while (slot < slots.length - 1 && left >= slots[slot]) left -= slots[slot++];
      moments.push({ at: ((slot + random()) * windowMs) / slots.length, reaction });
    }
  }
  return moments.sort((a, b) => a.at - b.at);
}

function lengthOf(frame) {
  const length = frame.window ? frame.window.end - frame.window.start : 2000;
  return Math.min(60000, Math.max(100, length));
}

/** Counts less the viewer's own taps [{reaction, at}], and the taps that later frames will bring. */
export function withoutOwn(counts, taps, now) {
  const rest = dict(counts);
  const names = dict();
  for (const name of Object.keys(rest)) names[fold(name)] = name;
  const left = taps.filter(tap => {
    const name = names[fold(tap.reaction)];
    if (now - tap.at > OWN_MS) return false;
    if (!rest[name]) return true;
    rest[name] -= 1;
    return false;
  });
  return [rest, left];
}

function swarm(element, settings) {
  const canvas = document.createElement("canvas");
  canvas.className = "uproar-canvas";
  canvas.setAttribute("aria-hidden", "true");
  element.appendChild(canvas);
  const context = canvas.getContext("2d");
  const random = settings.random;
  let width = 0;
  let height = 0;
  let ratio = 1;
  let pictures = new Map();
  let own = [];
  let waiting = [];
  let live = [];
  let budget = 120;
  let budgetMax = 120;
  let dropped = 0;
  let request = 0;
  let before = 0;
  let average = 17;

  function resize() {
    ratio = Math.min(2, window.devicePixelRatio || 1);
    width = element.clientWidth;
    height = element.clientHeight;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    pictures = new Map();
    budgetMax = Math.min(320, Math.max(60, Math.round((width * height) / 3600)));
    budget = Math.min(budget, budgetMax);
  }

  function picture(reaction) {
    let made = pictures.get(reaction);
    if (!made) {
      if (pictures.size >= PICTURES_MAX) pictures.clear();
      made = draw(reaction, Math.round(SIDE * settings.scale * ratio), settings.pictures[reaction]);
      pictures.set(reaction, made);
    }
    return made;
  }

  function launch(reaction, mine) {
    if (live.length >= budget) {
      dropped += 1;
      return;
    }
    live.push({
      reaction,
      born: settings.now(),
      life: LIFE_MS + random() * LIFE_SPREAD_MS,
      x: mine ? 0.5 + (random() - 0.5) * 0.3 : random(),
      sway: (random() - 0.5) * 0.12,
      pace: 1.5 + random() * 2.5,
      size: (mine ? 1.35 : 0.7) + random() * 0.5,
    });
  }

  function paint(sprite, now) {
    const t = (now - sprite.born) / sprite.life;
    const image = picture(sprite.reaction);
    // It pops up, rises fast at first and slower later, sways, and fades in the last third.
    const pop = t < 0.06 ? 0.3 + (t / 0.06) * 0.85 : t < 0.1 ? 1.15 - ((t - 0.06) / 0.04) * 0.15 : 1;
    const size = sprite.size * pop;
    const w = image.width * size;
    const h = image.height * size;
    const rise = 1 - Math.pow(1 - t, 1.6);
    const drift = Math.min(1, Math.max(0, sprite.x + sprite.sway * Math.sin(t * Math.PI * sprite.pace)));
    const x = drift * (canvas.width - w);
    const y = canvas.height - rise * (canvas.height + h * 0.2) - h * 0.4;
    context.globalAlpha = t > 0.65 ? Math.max(0, 1 - (t - 0.65) / 0.35) : 1;
    context.drawImage(image, x, y, w, h);
  }

  function keepPace(now) {
    average = average * 0.92 + Math.min(200, now - before) * 0.08;
    if (average > SLOW_MS) budget = Math.max(24, budget * 0.98);
    else if (average < FAST_MS) budget = Math.min(budgetMax, budget + 0.5);
  }

  function step() {
    const now = settings.now();
    if (before) keepPace(now);
    before = now;
    while (waiting.length && waiting[0].at <= now) launch(waiting.shift().reaction, false);
    context.globalAlpha = 1;
    context.clearRect(0, 0, canvas.width, canvas.height);
    live = live.filter(sprite => now - sprite.born < sprite.life);
    for (const sprite of live) paint(sprite, now);
    request = live.length || waiting.length ? requestAnimationFrame(step) : 0;
  }

  function run() {
    if (!request && !document.hidden) {
      before = 0;
      request = requestAnimationFrame(step);
    }
  }

  function onVisibility() {
    if (!document.hidden) return;
    cancelAnimationFrame(request);
    request = 0;
    waiting = [];
    live = [];
    context.clearRect(0, 0, canvas.width, canvas.height);
  }

  document.addEventListener("visibilitychange", onVisibility);
  const observer = window.ResizeObserver ? new ResizeObserver(resize) : null;
  if (observer) observer.observe(element);
  else window.addEventListener("resize", resize);
  resize();

  return {
    show(frame) {
      if (document.hidden || !frame.count) return;
      const [counts, left] = withoutOwn(frame.counts, own, settings.now());
      own = left;
      const crowd = sumOf(Object.keys(counts).map(name => counts[name]));
      const windowMs = lengthOf(frame);
      // Not more than can be in the air, or the first slots would take all the places.
      const room = Math.round((budget * windowMs) / (LIFE_MS + LIFE_SPREAD_MS / 2));
      const sprites = Math.min(room, spritesFor(crowd, windowMs));
      const start = settings.now();
      for (const moment of plan(Object.assign({}, frame, { counts }), sprites, random)) {
        waiting.push({ at: start + moment.at, reaction: moment.reaction });
      }
      waiting.sort((a, b) => a.at - b.at);
      if (waiting.length > WAITING_MAX) waiting = waiting.slice(-WAITING_MAX);
      run();
    },
    tap(reaction) {
      if (document.hidden) return;
      own = own.concat({ reaction, at: settings.now() }).slice(-OWN_MAX);
      if (live.length >= budget) live.shift();
      launch(reaction, true);
      run();
    },
    stats: () => ({ live: live.length, budget: Math.round(budget), dropped }),
    destroy() {
      cancelAnimationFrame(request);
      document.removeEventListener("visibilitychange", onVisibility);
      if (observer) observer.disconnect();
      else window.removeEventListener("resize", resize);
      element.removeChild(canvas);
    },
  };
}

/** A picture of a reaction, made once: an emoji as it is, a short code on a pill, or the catalogue's image. */
function draw(reaction, side, url) {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  const isCode = isShortCode(reaction);
  const text = isCode && reaction.length > 14 ? reaction.slice(0, 13) + "…" : reaction;
  const font = isCode ? `600 ${side * 0.44}px system-ui,sans-serif` : `${side * 0.8}px ${EMOJI_FONT}`;
  context.font = font;
  const wide = isCode ? context.measureText(text).width + side * 0.5 : Math.max(side, context.measureText(text).width);
  canvas.width = Math.ceil(url ? side : Math.min(wide, side * 5));
  canvas.height = side;
  context.font = font;
  context.textAlign = "center";
  context.textBaseline = "middle";
  if (url) {
    const image = new Image();
    image.crossOrigin = "anonymous";
    image.onload = () => {
      context.clearRect(0, 0, side, side);
      context.drawImage(image, 0, 0, side, side);
    };
    image.src = url;
  }
  if (isCode) {
    pill(context, canvas.width, side);
    context.fillStyle = "#10131f";
  }
  context.fillText(text, canvas.width / 2, side * 0.54);
  return canvas;
}

function pill(context, width, height) {
  const top = height * 0.16;
  const radius = (height - 2 * top) / 2;
  context.fillStyle = "rgba(255,255,255,.94)";
  context.beginPath();
  context.arc(radius, height / 2, radius, Math.PI / 2, Math.PI * 1.5);
  context.arc(width - radius, height / 2, radius, -Math.PI / 2, Math.PI / 2);
  context.fill();
}

/** Bars, cards or counters: the room's totals, the most frequent first. */
function list(element, skin, settings) {
  const root = document.createElement("ol");
  root.className = "uproar-list uproar-" + skin;
  element.appendChild(root);
  const rows = new Map();

  function row(reaction) {
    let made = rows.get(reaction);
    if (!made) {
      const item = document.createElement("li");
      const parts = ["reaction", "bar", "number"].map(name => {
        const part = document.createElement("span");
        part.className = name;
        item.appendChild(part);
        return part;
      });
      // Only ever as text: a reaction may look like markup.
      parts[0].textContent = reaction;
      parts[0].dir = "auto";
      parts[0].classList.toggle("code", isShortCode(reaction));
      parts[1].setAttribute("aria-hidden", "true");
      made = { item, bar: parts[1], number: parts[2] };
      rows.set(reaction, made);
    }
    return made;
  }

  function show(frame) {
    const [totals, counts] = [dict(frame.totals), dict(frame.counts)];
    const names = Object.keys(totals).sort((a, b) => totals[b] - totals[a]).slice(0, settings.top);
    for (const [reaction, made] of rows) {
      if (names.indexOf(reaction) < 0) {
        root.removeChild(made.item);
        rows.delete(reaction);
      }
    }
    names.forEach((reaction, place) => {
      const made = row(reaction);
      made.bar.style.setProperty("--share", totals[reaction] / totals[names[0]]);
      made.number.textContent = totals[reaction].toLocaleString();
      made.item.classList.toggle("rises", Boolean(frame.count && counts[reaction]));
      if (root.children[place] !== made.item) root.insertBefore(made.item, root.children[place] || null);
    });
  }

  return { show, restore: show, tap() {}, destroy: () => element.removeChild(root) };
}
