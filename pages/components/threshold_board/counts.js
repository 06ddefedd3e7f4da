// Counting at a threshold: all that the board shows follows from the sorted scores of the two classes. No drawing here.
// Bad is positive: a score at or above `high` means bad, one below `low` means good, between them a person decides.

const BINS = 40; // of the histogram
const FINE = 1 / 1500; // of the unit square: what is nearer than that to the last corner of a curve is not seen

/** Sorted scores from base64 of little-endian float64. */
function decodeScores(text) {
  return new Float64Array(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}

/** How many of `sorted` (rising) lie below `value`. */
function below(sorted, value) {
  let [from, to] = [0, sorted.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    if (sorted[middle] < value) from = middle + 1;
    else to = middle;
  }
  return from;
}

/** Counts at two thresholds; with one, low === high. */
function outcome(good, bad, high, low) {
  const [goodLow, goodHigh, escapes, badHigh] = [below(good, low), below(good, high), below(bad, low), below(bad, high)];
  return {
    nGood: good.length, nBad: bad.length, escapes, passed: goodLow,
    overkill: good.length - goodHigh, caught: bad.length - badHigh,
    personGood: goodHigh - goodLow, personBad: badHigh - escapes,
  };
}

/** Counts that Python made crosswise (ssn_core.crossfit), in the words of this file; null where there are none. */
function crosswise(counted) {
  return counted && {
    nGood: counted.n_good, nBad: counted.n_bad, escapes: counted.escapes, overkill: counted.overkill,
    personGood: counted.to_person_good, personBad: counted.to_person_bad,
  };
}

/** Wilson's score interval of a rate (Wilson 1927), as ssn_core.intervals.rate_interval; null without any case. */
function wilson(events, n, z) {
  if (!n) return null;
  const [rate, zz] = [events / n, z * z];
  const centre = (rate + zz / (2 * n)) / (1 + zz / n);
  const half = (z * Math.sqrt((rate * (1 - rate)) / n + zz / (4 * n * n))) / (1 + zz / n);
  return { low: events === 0 ? 0 : Math.max(0, centre - half), high: events === n ? 1 : Math.min(1, centre + half) };
}

/** The threshold midway between two neighbouring scores: not tied to one image. */
function midway(lower, upper) {
  const middle = lower / 2 + upper / 2; // halves first: no overflow
  return lower < middle && middle <= upper ? middle : upper;
}

/**
 * Corners of both curves by falling threshold, from "nothing is bad" to "everything is bad": at each, a threshold that
 * gives it (the board brings it into its range), the share of good parts rejected (fpr), of bad parts caught (tpr), and the precision (null: nothing flagged).
 * Corners that nobody could tell apart on a screen are left out.
 */
function corners(good, bad) {
  const found = [];
  let [g, b, last] = [good.length, bad.length, null];
  const score = () => Math.max(g ? good[g - 1] : -Infinity, b ? bad[b - 1] : -Infinity);
  const take = (upper) => {
    const lower = score();
    const flagged = good.length - g + bad.length - b;
    const corner = {
      threshold: upper === null ? Infinity : lower === -Infinity ? upper : midway(lower, upper),
      fpr: (good.length - g) / good.length, tpr: (bad.length - b) / bad.length,
      precision: flagged ? (bad.length - b) / flagged : null,
    };
    const far = (name) => Math.abs(corner[name] - last[name]) >= FINE;
    if (last && lower !== -Infinity && last.precision !== null && !far("fpr") && !far("tpr") && !far("precision")) return;
    found.push((last = corner));
  };
  take(null);
  while (g || b) {
    const level = score();
    while (g && good[g - 1] === level) g--;
    while (b && bad[b - 1] === level) b--;
    take(level);
  }
  return found;
}

/** Bars of equal width over the range of all scores: their edges, and how many of each class lie in each. */
function histogram(good, bad) {
  const all = [good, bad].filter((scores) => scores.length);
  let from = Math.min(...all.map((scores) => scores[0]));
  let to = Math.max(...all.map((scores) => scores[scores.length - 1]));
  if (from === to) [from, to] = [from - 0.5, to + 0.5];
  const edges = Array.from({ length: BINS + 1 }, (_, i) => (i === BINS ? to : from + ((to - from) * i) / BINS));
  const count = (sorted) => edges.slice(1).map((edge, i) => (i === BINS - 1 ? sorted.length : below(sorted, edge)) - below(sorted, edges[i]));
  return { edges, good: count(good), bad: count(bad) };
}

/** About `n` round numbers in [from, to]. */
function ticks(from, to, n) {
  const raw = (to - from) / n;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
  const first = Math.ceil(from / step - 1e-9);
  return Array.from({ length: Math.max(0, Math.floor(to / step + 1e-9) - first + 1) }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** "12.3 %"; small rates with more digits, so that 3 in 100,000 is not shown as none. */
function percent(rate) {
  if (rate === null) return "n/a";
  const digits = rate === 0 || rate >= 0.001 ? 1 : rate >= 0.0001 ? 2 : 3;
  return `${(100 * rate).toFixed(digits)} %`;
}

/** "0.4–10.5 %". */
function range(interval) {
  return `${percent(interval.low).replace(" %", "")}–${percent(interval.high)}`;
}

const whole = (n) => n.toLocaleString("en-US");
const signed = (value) => value.toFixed(3).replace("-", "−");
