// What the desk makes of Prometheus' text format.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parse, quantile, rate, rates, sum } from "../pages/metrics.js";

const at = (seconds, text) => parse(text, 1_800_000_000_000 + seconds * 1000);

describe("parse", () => {
  test("reads values with and without labels, and passes over all else", () => {
    const reading = at(0, '# HELP a words\n# TYPE a counter\na 3\nb{x="1",y="2"} 4.5 1800000000000\n\nrubbish\nc{le="+Inf"} 1e3\n');
    assert.equal(sum(reading, "a"), 3);
    assert.deepEqual(reading.values.get("b"), [{ labels: { x: "1", y: "2" }, value: 4.5 }]);
    assert.equal(sum(reading, "c"), 1000);
    assert.deepEqual([...reading.values.keys()], ["a", "b", "c"]);
  });

  test("reads what a label may hold: braces, quotes, backslashes, new lines", () => {
    const [{ labels }] = at(0, 'a{x="{}, \\"q\\" \\\\ \\n",y="}"} 1').values.get("a");
    assert.deepEqual(labels, { x: '{}, "q" \\ \n', y: "}" });
  });
});

test("sum: of the series whose labels match; null where there is no such metric", () => {
  const reading = at(0, 'a{p="sse"} 1\na{p="mqtt"} 2\na{p="http"} 4');
  assert.equal(sum(reading, "a", { p: "mqtt" }), 2);
  assert.equal(sum(reading, "a", { p: /sse|mqtt/ }), 3);
  assert.equal(sum(reading, "a", { q: "mqtt" }), 0);
  assert.equal(sum(reading, "b"), null);
});

describe("rate", () => {
  test("is what a counter grew each second", () => {
    assert.equal(rate(at(0, "a 10"), at(4, "a 30"), "a"), 5);
    assert.equal(rate(at(0, "a 10"), at(4, "a 10"), "a"), 0);
  });

  test("a restarted process begins at zero", () => {
    assert.equal(rate(at(0, "a 1000"), at(2, "a 30"), "a"), 15);
  });

  test("is null where a reading lacks the metric, and finite for two readings at one moment", () => {
    assert.equal(rate(at(0, ""), at(2, "a 30"), "a"), null);
    assert.ok(Number.isFinite(rate(at(0, "a 1"), at(0, "a 3"), "a")));
  });

  test("by label leaves out what stands still, and takes any name", () => {
    const [before, after] = [at(0, 'a{c="x"} 1\na{c="y"} 1\na{c="__proto__"} 0'), at(2, 'a{c="x"} 5\na{c="y"} 1\na{c="__proto__"} 2')];
    assert.deepEqual(Object.entries(rates(before, after, "a", "c")), [["x", 2], ["__proto__", 1]]);
  });
});

describe("quantile", () => {
  const histogram = (...counts) =>
    ["0.1", "0.2", "0.4", "+Inf"].map((le, i) => `h_bucket{le="${le}"} ${counts[i]}`).join("\n");

  test("interpolates within the bucket, of what came in between", () => {
    const [before, after] = [at(0, histogram(50, 50, 50, 50)), at(2, histogram(60, 80, 90, 90))];
    for (const [q, wanted] of [[0.25, 0.1], [0.5, 0.15], [1, 0.4]]) {
      const found = quantile(before, after, "h", q);
      assert.ok(Math.abs(found - wanted) < 1e-9, `${q}: ${found}`);
    }
  });

  test("beyond the last bound is the last bound; nothing taken in is null", () => {
    assert.equal(quantile(at(0, histogram(0, 0, 0, 0)), at(2, histogram(0, 0, 0, 9)), "h", 0.5), 0.4);
    assert.equal(quantile(at(0, histogram(1, 1, 1, 1)), at(2, histogram(1, 1, 1, 1)), "h", 0.5), null);
    assert.equal(quantile(at(0, ""), at(2, ""), "h", 0.5), null);
  });

  test("sums the labels of a histogram, whichever order they come in", () => {
    const text = 'h_bucket{t="a",le="+Inf"} 4\nh_bucket{t="a",le="1"} 4\nh_bucket{t="b",le="1"} 0\nh_bucket{t="b",le="+Inf"} 0';
    assert.equal(quantile(at(0, ""), at(2, text), "h", 0.5), 0.5);
  });

  test("a restarted process begins at zero", () => {
    const [before, after] = [at(0, histogram(900, 900, 900, 900)), at(2, histogram(0, 10, 10, 10))];
    assert.ok(Math.abs(quantile(before, after, "h", 0.5) - 0.15) < 1e-9);
  });
});
