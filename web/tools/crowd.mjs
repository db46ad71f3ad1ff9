// A crowd for pictures: posts a seeded mix of reactions with waves in it, until it is stopped.

/** A generator with a seed (mulberry32), so that pictures can be made again. */
export function seeded(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** How often each reaction is sent, and how far a moment of the match can raise that. */
const MIX = { "🔥": [30, 70], "❤️": [26, 30], "👏": [20, 60], "😂": [12, 15], "😮": [7, 50], "🎉": [5, 40], "😢": [2, 6], "🏏": [4, 4] };
const POSTS_PER_S = 10;

/** `perSecond` reactions a second on average, in posts to `room` of an Uproar as tests/real/server.mjs starts it. */
export function crowd(uproar, room, { seed, perSecond }) {
  const random = seeded(seed);
  const weights = Object.entries(MIX);
  let moment = 0;

  function reactions() {
    // A moment excites everybody and fades within seconds.
    moment = random() < 0.035 ? 1 : moment * 0.93;
    const counts = {};
    for (const [reaction, [calm, excited]] of weights) {
      const share = (calm + excited * moment) / 110;
      const count = Math.round((perSecond / POSTS_PER_S) * share * (0.6 + 0.8 * random()));
      if (count > 0) counts[reaction] = count;
    }
    return counts;
  }

  const timer = setInterval(() => {
    const counts = reactions();
    // The server may be away while it is restarted.
    if (Object.keys(counts).length) uproar.post(room, counts).catch(() => {});
  }, 1000 / POSTS_PER_S);
  return { stop: () => clearInterval(timer) };
}
