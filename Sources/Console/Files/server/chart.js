// Line charts as SVG.
import { fill, h, svg } from "/console/dom.js";
import { bytes, decimal } from "/console/format.js";

const size = { width: 400, height: 150, left: 50, right: 12, top: 10, bottom: 22 };

/** Round values that divide a range into at most `count` parts. */
function ticks(low, high, count, isBinary) {
  const rough = (high - low) / count;
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = isBinary
    ? 2 ** Math.ceil(Math.log2(rough))
    : [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough * 0.999);
  const result = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) result.push(value);
  return result;
}

/**
 * A chart with a legend and a readout under the pointer, or under the arrow keys.
 *
 * `draw(series)` shows series of `{ name, points, dashed?, dots? }`, whose points are `[x, y]` in the order of x.
 * Options: `title`, `x` and `y` (which write values), `zero` (whether the y axis begins at 0), `span` (the smallest extent of
 * the x axis).
 */
export function chart({ title, x = decimal, y = decimal, zero = true, span = 0 }) {
  const plot = svg("svg", { viewBox: `0 0 ${size.width} ${size.height}`, "aria-hidden": "true" });
  const legend = h("div", { class: "legend" });
  const readout = h("div", { class: "readout", role: "status" });
  const frame = h("div", { class: "plot", tabindex: "0", role: "group", "aria-label": `${title}: chart, arrow keys show its values` }, plot);
  const element = h("figure", { class: "card chart" }, h("h2", {}, title), legend, frame, readout);
  let shown = [];
  let scale = null;
  let cursor = null;

  function draw(series) {
    shown = series.map((entry) => ({ ...entry, points: entry.points.filter(([, value]) => Number.isFinite(value)) }));
    const points = shown.flatMap((entry) => entry.points);
    fill(legend, shown.map((entry, index) => h("span", { class: `key s${index % 6}${entry.dashed ? " dashed" : ""}` }, entry.name)));
    if (points.length === 0) {
      scale = null;
      readout.textContent = "";
      fill(plot, svg("text", { x: size.width / 2, y: size.height / 2, "text-anchor": "middle" }, "No data yet"));
      return;
    }
    const xs = points.map(([value]) => value);
    const ys = points.map(([, value]) => value);
    let [left, right] = [Math.min(...xs), Math.max(...xs)];
    if (right - left < span) left = right - span;
    if (left === right) right = left + 1;
    let [low, high] = [zero ? 0 : Math.min(...ys), Math.max(...ys)];
    if (high - low <= Math.abs(high) * 1e-6) high = low + (zero ? 1 : Math.abs(low) * 0.1 || 1);
    const marks = ticks(low, high, 4, y === bytes);
    const gap = (marks[1] ?? high) - marks[0];
    if (marks.at(-1) < high) high = marks.at(-1) + gap;
    if (!zero && marks[0] > low) low = marks[0] - gap;
    scale = {
      x: (value) => size.left + ((value - left) / (right - left)) * (size.width - size.left - size.right),
      y: (value) => size.height - size.bottom - ((value - low) / (high - low)) * (size.height - size.top - size.bottom),
    };
    const lines = ticks(low, high, 5, y === bytes).map((value) => [
      svg("line", { class: "grid", x1: size.left, x2: size.width - size.right, y1: scale.y(value), y2: scale.y(value) }),
      svg("text", { x: size.left - 6, y: scale.y(value) + 3.5, "text-anchor": "end" }, y(value)),
    ]);
    const below = ticks(left, right, 4).map((value) =>
      svg("text", { x: scale.x(value), y: size.height - 6, "text-anchor": "middle" }, x(value)));
    const paths = shown.map((entry, index) => {
      const name = `s${index % 6}${entry.dashed ? " dashed" : ""}`;
      const places = entry.points.map((point) => [scale.x(point[0]).toFixed(1), scale.y(point[1]).toFixed(1)]);
      const dots = entry.dots || places.length === 1
        ? places.map(([cx, cy]) => svg("circle", { class: name, cx, cy, r: 2.8 })) : [];
      return [svg("path", { class: name, d: places.map((place, i) => `${i ? "L" : "M"}${place.join(" ")}`).join("") }), dots];
    });
    cursor = svg("line", { class: "cursor", y1: size.top, y2: size.height - size.bottom, visibility: "hidden" });
    fill(plot, lines, below, paths, cursor);
  }

  /** Writes the values at the x nearest to `wanted`. */
  function show(wanted) {
    if (!scale) return;
    const all = shown.flatMap((entry) => entry.points.map(([value]) => value));
    if (all.length === 0) return;
    const at = all.reduce((best, value) => (Math.abs(value - wanted) < Math.abs(best - wanted) ? value : best));
    cursor.setAttribute("x1", scale.x(at));
    cursor.setAttribute("x2", scale.x(at));
    cursor.setAttribute("visibility", "visible");
    frame.dataset.at = at;
    const values = shown.map((entry) => {
      const point = entry.points.findLast(([value]) => value <= at);
      return point && `${entry.name} ${y(point[1])}`;
    });
    readout.textContent = [x(at), ...values.filter(Boolean)].join(" · ");
  }

  frame.addEventListener("pointermove", (event) => {
    if (!scale || shown.length === 0) return;
    const box = plot.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * size.width;
    const all = shown.flatMap((entry) => entry.points.map(([value]) => value));
    show(all.reduce((best, value) => (Math.abs(scale.x(value) - place) < Math.abs(scale.x(best) - place) ? value : best)));
  });
  const leave = () => {
    cursor?.setAttribute("visibility", "hidden");
    readout.textContent = "";
  };
  frame.addEventListener("pointerleave", leave);
  frame.addEventListener("blur", leave);
  frame.addEventListener("keydown", (event) => {
    if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    event.preventDefault();
    const all = [...new Set(shown.flatMap((entry) => entry.points.map(([value]) => value)))].sort((a, b) => a - b);
    const last = all.indexOf(Number(frame.dataset.at));
    const next = last < 0 ? all.length - 1 : last + (event.key === "ArrowRight" ? 1 : -1);
    show(all[Math.max(0, Math.min(all.length - 1, next))]);
  });
  draw([]);
  return { element, draw };
}
