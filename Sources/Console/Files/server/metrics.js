// Reads the server's metrics, which are in Prometheus' text format.

/** The samples by metric: lists of `{ labels, value }`. */
export function parse(text) {
  const metrics = new Map();
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const found = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, name, value] of (found[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[name] = value.replace(/\\(.)/g, (_, letter) => (letter === "n" ? "\n" : letter));
    }
    if (!metrics.has(found[1])) metrics.set(found[1], []);
    metrics.get(found[1]).push({ labels, value: found[3] === "+Inf" ? Infinity : Number(found[3]) });
  }
  return metrics;
}

/** The sum of a metric's samples that have the given labels. */
export function sum(metrics, name, labels = {}) {
  return (metrics?.get(name) ?? [])
    .filter((sample) => Object.entries(labels).every(([key, value]) => sample.labels[key] === value))
    .reduce((total, sample) => total + sample.value, 0);
}

/** The values of a label that a metric has. */
export function values(metrics, name, label) {
  return [...new Set((metrics?.get(name) ?? []).map((sample) => sample.labels[label]))];
}

/** A histogram as its observations since `before`: `{ bounds, counts, sum, count }`. */
export function histogram(metrics, name, before = null) {
  const buckets = metrics.get(name + "_bucket") ?? [];
  const old = before?.get(name + "_bucket") ?? [];
  const totals = buckets.map((bucket, i) => bucket.value - (old[i]?.value ?? 0));
  return {
    bounds: buckets.map(({ labels }) => (labels.le === "+Inf" ? Infinity : Number(labels.le))),
    counts: totals.map((total, i) => total - (totals[i - 1] ?? 0)),
    sum: sum(metrics, name + "_sum") - sum(before, name + "_sum"),
    count: totals.at(-1) ?? 0,
  };
}

/** A quantile, taken as evenly spread within its bucket; NaN without observations. */
export function quantile({ bounds, counts, count }, share) {
  if (!(count > 0)) return NaN;
  let left = share * count;
  for (let i = 0; i < bounds.length; i += 1) {
    if (left <= counts[i] && counts[i] > 0) {
      const low = i === 0 ? 0 : bounds[i - 1];
      return Number.isFinite(bounds[i]) ? low + (bounds[i] - low) * (left / counts[i]) : low;
    }
    left -= counts[i];
  }
  return bounds.at(-2);
}
