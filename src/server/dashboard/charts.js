// Lines over the last minutes, and an interval against a promise. Drawn anew at each sample.

import { drawn, short } from "./words.js";

export const HISTORY_SECONDS = 300;
const SHORTEST_WINDOW = 30;
const [LEFT, RIGHT, TOP, BOTTOM] = [40, 6, 8, 18];

// What was drawn last on each chart, and where a pointer rests on it.
const drawings = new WeakMap();

// Round steps for an axis of at most `most` labels.
function ticks(low, high, most = 4) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) ?? rough;
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) found.push(Math.abs(at) < step * 1e-6 ? 0 : at);
  return found;
}

const ago = (seconds) => (seconds >= 120 ? `${+(seconds / 60).toPrecision(2)} min ago` : `${Math.round(seconds)} s ago`);

// `lines`: [{name, values: [[t, y]], paint, dash?, base?}], `base` being the line that an area stands on; `band`:
// {values: [[t, low, high]], paint}. Names are read out where a pointer rests and to those who cannot see the chart.
export function chart(svg, { lines, band, low, high, label = short }) {
  const before = drawings.get(svg);
  const drawing = { lines, band, low, high, label, pointer: before?.pointer ?? null };
  drawings.set(svg, drawing);
  if (!before) {
    svg.addEventListener("pointermove", (event) => point(svg, event.clientX - svg.getBoundingClientRect().left));
    svg.addEventListener("pointerleave", () => point(svg, null));
  }
  draw(svg, drawing);
}

function point(svg, x) {
  const drawing = drawings.get(svg);
  drawing.pointer = x;
  draw(svg, drawing);
}

function limits({ lines, band, low, high }) {
  // Of a band only the latest counts: at the start it is as wide as can be.
  const all = [...lines.flatMap((line) => line.values.map(([, y]) => y)), ...(band?.values.at(-1).slice(1) ?? [])];
  const known = all.filter(Number.isFinite);
  if (known.length === 0) return null;
  let [least, most] = [low ?? Math.min(...known), high ?? Math.max(...known)];
  if (!(most > least)) [least, most] = [low ?? least - 0.5, high ?? most + 0.5];
  const room = most - least;
  return [low === undefined ? least - 0.08 * room : least, high === undefined ? most + 0.12 * room : most];
}

function draw(svg, drawing) {
  const { lines, band, label, pointer } = drawing;
  const box = svg.getBoundingClientRect();
  const [width, height] = [Math.max(box.width, 80), Math.max(box.height, 50)];
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const range = limits(drawing);
  if (range === null) {
    svg.append(drawn("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "nothing yet"));
    return;
  }
  const [least, most] = range;
  const times = lines[0].values.map(([t]) => t);
  const now = times.at(-1);
  const span = Math.min(HISTORY_SECONDS, Math.max(SHORTEST_WINDOW, now - times[0]));
  const x = (t) => LEFT + (width - LEFT - RIGHT) * (1 - (now - t) / span);
  const y = (value) => TOP + (height - TOP - BOTTOM) * (1 - (Math.min(most, Math.max(least, value)) - least) / (most - least));
  for (const at of ticks(least, most)) {
    svg.append(drawn("line", { x1: LEFT, x2: width - RIGHT, y1: y(at), y2: y(at), class: "grid" }));
    svg.append(drawn("text", { x: LEFT - 6, y: y(at) + 4, "text-anchor": "end" }, label(at)));
  }
  svg.append(drawn("text", { x: LEFT, y: height - 4 }, ago(span)));
  svg.append(drawn("text", { x: width - RIGHT, y: height - 4, "text-anchor": "end" }, "now"));

  const path = (points) => points.map(([t, value], n) => `${n ? "L" : "M"}${x(t).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const shown = (values) => values.filter(([t, ...ys]) => ys.every(Number.isFinite) && now - t <= span);
  const area = (upper, lower, paint, opacity) => {
    if (upper.length < 2) return;
    const back = [...lower].reverse().map(([t, value]) => `L${x(t).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    svg.append(drawn("path", { d: `${path(upper)}${back}Z`, style: `fill:${paint};fill-opacity:${opacity};stroke:none` }));
  };
  if (band) {
    const points = shown(band.values);
    area(points.map(([t, , high]) => [t, high]), points.map(([t, low]) => [t, low]), band.paint, 0.16);
  }
  for (const { values, paint, dash, base } of lines) {
    const points = shown(values);
    if (points.length === 0) continue;
    if (base) area(points, base.filter(([t]) => points.some(([other]) => other === t)), paint, 0.55);
    const dashes = dash ? "stroke-dasharray:5 4;stroke-width:1.5" : `stroke-width:${base ? 1 : 2}`;
    svg.append(drawn("path", { d: path(points), style: `fill:none;stroke:${paint};stroke-linejoin:round;${dashes}` }));
    if (!dash && !base) {
      const [t, value] = points.at(-1);
      svg.append(drawn("circle", { cx: x(t), cy: y(value), r: 3, style: `fill:${paint}` }));
    }
  }

  if (pointer === null) return;
  const time = now - span * (1 - (pointer - LEFT) / (width - LEFT - RIGHT));
  const nearest = times.reduce((best, t) => (Math.abs(t - time) < Math.abs(best - time) ? t : best), now);
  if (now - nearest > span) return;
  svg.append(drawn("line", { x1: x(nearest), x2: x(nearest), y1: TOP, y2: height - BOTTOM, class: "cursor" }));
  const words = lines.filter((line) => line.name).map((line) => {
    const at = line.values.findIndex(([t]) => t === nearest);
    // A stacked area says its own height, not where it ends.
    const value = line.values[at]?.[1] - (line.base?.[at]?.[1] ?? 0);
    return Number.isFinite(value) ? `${line.name} ${label(value)}` : "";
  });
  const text = drawn("text", { x: width - RIGHT, y: TOP + 3, "text-anchor": "end", class: "readout" });
  text.textContent = [now - nearest < 1 ? "now" : ago(now - nearest), ...words.filter(Boolean)].join(" · ");
  svg.append(text);
}

// Satisfaction with its interval, and the promise as a mark to pass.
export function interval(svg, { alpha, satisfaction, bounds, label }) {
  const width = Math.max(svg.getBoundingClientRect().width, 80);
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} 40`);
  const [low, high] = bounds ?? [alpha, alpha];
  const from = Math.max(0, Math.min(low, alpha) - 0.04);
  const to = Math.min(1, Math.max(high, alpha) + 0.04);
  const x = (share) => 6 + ((width - 12) * (share - from)) / (to - from);
  svg.append(drawn("line", { x1: 6, x2: width - 6, y1: 24, y2: 24, class: "rail" }));
  if (bounds) {
    svg.append(drawn("line", { x1: x(low), x2: x(high), y1: 24, y2: 24, class: "span" }));
    svg.append(drawn("circle", { cx: x(satisfaction), cy: 24, r: 6.5, class: "dot" }));
  }
  svg.append(drawn("path", { d: `M${x(alpha)} 15v18`, class: "mark" }));
  const anchor = x(alpha) > width - 70 ? "end" : x(alpha) < 70 ? "start" : "middle";
  svg.append(drawn("text", { x: x(alpha), y: 10, "text-anchor": anchor }, label));
}
