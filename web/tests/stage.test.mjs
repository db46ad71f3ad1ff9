// The stage's arithmetic: how many sprites a frame gets, and when each of them starts.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { isShortCode, plan, spritesFor, withoutOwn } from "../stage.js";

const WINDOW_MS = 2000;

/** A generator with a seed (mulberry32), so that a failure can be repeated. */
function seeded(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function frame(counts, slots, more) {
  const count = Object.values(counts).reduce((sum, n) => sum + n, 0);
  return { window: { start: 0, end: WINDOW_MS }, count, counts, slots: slots || [count], ...more };
}

const tally = (moments) =>
  moments.reduce((sums, { reaction }) => sums.set(reaction, (sums.get(reaction) || 0) + 1), new Map());

describe("spritesFor", () => {
  test("each reaction of a small crowd is one sprite", () => {
    for (const count of [0, 1, 7, 24]) assert.equal(spritesFor(count, WINDOW_MS), count);
  });

  test("a larger crowd has more sprites, but far fewer than reactions", () => {
    let before = 0;
    for (const count of [10, 25, 100, 1000, 20_000, 1_000_000, 1e12]) {
      const sprites = spritesFor(count, WINDOW_MS);
      assert.ok(sprites > before && Number.isInteger(sprites), `${count}: ${sprites}`);
      before = sprites;
    }
    assert.ok(before < 1000);
  });

  test("twice the reactions in twice the time are twice the sprites", () => {
    assert.equal(spritesFor(8000, 4000), 2 * spritesFor(4000, 2000));
  });
});

describe("plan", () => {
  test("sprites are in order, within the window, and share it as the slots say", () => {
    const slots = [900, 0, 100, 0];
    const moments = plan(frame({ "🔥": 1000 }, slots), 400, seeded(1));
    assert.equal(moments.length, 400);
    const inSlot = [0, 0, 0, 0];
    moments.forEach(({ at }, i) => {
      assert.ok(at >= 0 && at < WINDOW_MS && (!i || at >= moments[i - 1].at));
      inSlot[Math.floor(at / (WINDOW_MS / 4))] += 1;
    });
    assert.equal(inSlot[1] + inSlot[3], 0, "nothing where nothing was");
    assert.ok(Math.abs(inSlot[0] / 400 - 0.9) < 0.05, String(inSlot));
  });

  test("within a slot sprites are spread: no burst at its start", () => {
    const moments = plan(frame({ "🔥": 1000 }, [1000]), 200, seeded(2));
    const quarters = [0, 0, 0, 0];
    for (const { at } of moments) quarters[Math.floor(at / 500)] += 1;
    for (const n of quarters) assert.ok(n > 30 && n < 70, String(quarters));
  });

  test("reactions have sprites by their share, and none is left out", () => {
    const sums = tally(plan(frame({ "🔥": 7000, "👏": 2000, "😮": 999, "🐢": 1 }), 100, seeded(3)));
    assert.deepEqual([sums.get("🔥"), sums.get("👏"), sums.get("😮"), sums.get("🐢")], [70, 20, 10, 1]);
  });

  test("never more sprites than reactions", () => {
    const sums = tally(plan(frame({ "🔥": 2, "👏": 1 }), 50, seeded(4)));
    assert.deepEqual([sums.get("🔥"), sums.get("👏")], [2, 1]);
  });

  test("the same seed gives the same plan, another seed another one", () => {
    const of = (seed) => plan(frame({ "🔥": 300, "👏": 30 }, [1, 2, 3, 4]), 60, seeded(seed));
    assert.deepEqual(of(5), of(5));
    assert.notDeepEqual(of(5), of(6));
  });

  test("a frame without slots, counts or a window is no error", () => {
    assert.deepEqual(plan({}, 10, seeded(7)), []);
    assert.equal(plan({ counts: { "🔥": 3 } }, 3, seeded(7)).length, 3);
    const slots = plan(frame({ "🔥": 3 }, [0, 0]), 3, seeded(7));
    assert.ok(slots.every(({ at }) => at >= 0 && at < WINDOW_MS));
  });
});

describe("own taps", () => {
  const tap = (reaction, at = 0) => ({ reaction, at });

  test("a tap is taken off the crowd once", () => {
    const [counts, left] = withoutOwn({ "🔥": 3 }, [tap("🔥"), tap("🔥"), tap("👏")], 100);
    assert.equal(counts["🔥"], 1);
    assert.deepEqual(left, [tap("👏")]);
  });

  test("a tap is found in the form that the server shows", () => {
    const [counts, left] = withoutOwn({ "❤️": 1, "👍": 1 }, [tap("❤"), tap("👍🏽")], 100);
    assert.deepEqual([counts["❤️"], counts["👍"], left.length], [0, 0, 0]);
  });

  test("a tap that never came back is forgotten", () => {
    assert.deepEqual(withoutOwn({}, [tap("🔥", 0)], 60_000)[1], []);
  });

  test("reactions with the names of an object's members are counted as all others", () => {
    const hostile = JSON.parse('{"__proto__":2,"constructor":5,"toString":1}');
    const [counts, left] = withoutOwn(hostile, [tap("valueOf"), tap("constructor")], 100);
    assert.deepEqual(Object.keys(counts).sort(), ["__proto__", "constructor", "toString"]);
    assert.deepEqual([counts["__proto__"], counts.constructor, left.length], [2, 4, 1]);
    assert.equal(plan({ counts }, 7, seeded(8)).length, 7);
  });
});

test("short codes are plain letters, emoji are not", () => {
  for (const code of ["gg", "GOAL!", "4x4", "<b>"]) assert.ok(isShortCode(code), code);
  for (const emoji of ["🔥", "4️⃣", "©️", "é"]) assert.ok(!isShortCode(emoji), emoji);
});
