// Reads Prometheus' text format, and what two readings say about the time between them.

/** A reading: {at, values: Map of name to [{labels, value}]}. */
export function parse(text, at) {
  const values = new Map();
  for (const line of text.split("\n")) {
    if (!line || line[0] === "#") continue;
    const found = /^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!found) continue;
    const series = { labels: labelsOf(found[2] || ""), value: Number(found[3]) };
    if (values.has(found[1])) values.get(found[1]).push(series);
    else values.set(found[1], [series]);
  }
  return { at, values };
}

/** A label may have the name of an object's member, such as "constructor". */
const dict = () => Object.create(null);

function labelsOf(text) {
  const labels = {};
  const unescape = value => value.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
  const pattern = /([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"/g;
  for (let found = pattern.exec(text); found; found = pattern.exec(text)) labels[found[1]] = unescape(found[2]);
  return labels;
}

function matches(labels, wanted) {
  return Object.keys(wanted || {}).every(name => wanted[name].test ? wanted[name].test(labels[name]) : labels[name] === wanted[name]);
}

/** The sum of a metric's series whose labels match. Null where the process has no such metric. */
export function sum(reading, name, wanted) {
  const series = reading.values.get(name);
  if (!series) return null;
  return series.reduce((total, one) => total + (matches(one.labels, wanted) ? one.value : 0), 0);
}

/** How much a counter grew each second. A restarted process begins at zero again. */
export function rate(before, after, name, wanted) {
  const [was, is] = [sum(before, name, wanted), sum(after, name, wanted)];
  if (was === null || is === null) return null;
  return (is >= was ? is - was : is) / (Math.max(1, after.at - before.at) / 1000);
}

/** The same for each value of a label: {value: rate}, without those that stand still. */
export function rates(before, after, name, label) {
  const found = dict();
  for (const one of after.values.get(name) || []) {
    const value = one.labels[label];
    const grown = rate(before, after, name, { [label]: value });
    if (grown) found[value] = grown;
  }
  return found;
}

/**
 * A quantile of what a histogram took in between two readings, by linear interpolation in its bucket. Null where it took nothing.
 * A restarted process begins at zero again.
 */
export function quantile(before, after, name, q) {
  const [was, is] = [new Map(buckets(before, name)), buckets(after, name)];
  const isRestarted = is.some(([le, count]) => count < (was.get(le) || 0));
  const grown = is.map(([le, count]) => [le, isRestarted ? count : count - (was.get(le) || 0)]);
  if (!grown.length || grown[grown.length - 1][1] <= 0) return null;
  const rank = q * grown[grown.length - 1][1];
  let [lower, below] = [0, 0];
  for (const [le, count] of grown) {
    if (count >= rank) return le === Infinity ? lower : lower + ((le - lower) * (rank - below)) / Math.max(1, count - below);
    [lower, below] = [le, count];
  }
  return lower;
}

/** The buckets of a histogram, summed over its labels: [[upper bound, count so far]], by bound. */
function buckets(reading, name) {
  const sums = new Map();
  for (const one of reading.values.get(name + "_bucket") || []) {
    const le = one.labels.le === "+Inf" ? Infinity : Number(one.labels.le);
    sums.set(le, (sums.get(le) || 0) + one.value);
  }
  return [...sums].sort((a, b) => a[0] - b[0]);
}
