/** Drawing in SVG: scales, axes and a frame that fits its place. */

import { s } from "./dom.js";
import { short, trimmed } from "./format.js";

export const MARGIN = { top: 22, right: 14, bottom: 36, left: 48 };

/** A linear scale from numbers to pixels. */
export function linear([low, high], [from, to]) {
  const span = high - low || 1;
  const scale = (value) => from + ((value - low) / span) * (to - from);
  scale.ticks = (count) => roundSteps(low, high, count);
  scale.text = (value) => trimmed(value, 3);
  return scale;
}

/** A logarithmic scale from numbers to pixels. */
export function logarithmic([low, high], [from, to]) {
  const inner = linear([Math.log(low), Math.log(high)], [from, to]);
  const scale = (value) => inner(Math.log(value));
  scale.ticks = (count) => roundFactors(low, high, count);
  scale.text = short;
  return scale;
}

function roundSteps(low, high, count) {
  if (!(high > low)) return [low];
  const power = 10 ** Math.floor(Math.log10((high - low) / count));
  const fits = (step) => Math.floor(high / step) - Math.ceil(low / step) < count + 1;
  const step = [1, 2, 5, 10].map((one) => one * power).find(fits);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high * (1 + 1e-9); at += 1) found.push(Number((at * step).toPrecision(12)));
  return found;
}

function roundFactors(low, high, count) {
  for (const kept of [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 5], [1, 2, 5], [1, 3], [1]]) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      for (const one of kept) if (one * 10 ** power >= low && one * 10 ** power <= high) found.push(one * 10 ** power);
    }
    if (found.length <= count || kept.length === 1) return found;
  }
  return [];
}

/** Axes with ticks, grid and names, as nodes. */
export function axes({ x, y, width, height, xName, yName }) {
  const { top, right, bottom, left } = MARGIN;
  const floor = height - bottom;
  const across = Math.max(3, Math.floor((width - left - right) / 70));
  const down = Math.max(3, Math.floor((floor - top) / 40));
  return s(
    "g",
    { class: "axes", "aria-hidden": "true" },
    y.ticks(down).map((tick) => [
      s("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
      s("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, y.text(tick)),
    ]),
    x.ticks(across).map((tick) => [
      s("line", { class: "grid", x1: x(tick), x2: x(tick), y1: top, y2: floor }),
      s("text", { x: x(tick), y: floor + 15, "text-anchor": "middle" }, x.text(tick)),
    ]),
    s("line", { class: "axis", x1: left, x2: width - right, y1: floor, y2: floor }),
    s("text", { class: "name", x: width - right, y: height - 4, "text-anchor": "end" }, xName),
    s("text", { class: "name", x: 2, y: 11 }, yName),
  );
}

/** A line through points in pixels. */
export function linePath(points) {
  return points.map(([px, py], index) => `${index ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("");
}

/** A step line through points in pixels, from left to right: each value holds until the next point. */
export function stairsPath(points) {
  return points.map(([px, py], index) => `${index ? `H${px.toFixed(1)}V` : `M${px.toFixed(1)} `}${py.toFixed(1)}`).join("");
}

/** Many dots as one path, which is fast for thousands. */
export function dotsPath(points) {
  return points.map(([px, py]) => `M${px.toFixed(1)} ${py.toFixed(1)}h0`).join("");
}

const LETTER = { width: 6.8, height: 15 }; // of a label, in pixels

/**
 * Positions of labels beside their points, without overlaps where there is room.
 *
 * @param {{at: number[], text: string}[]} labels
 * @returns {{x: number, y: number, anchor: string}[]} in the same order
 */
export function placeLabels(labels, width, height) {
  const taken = [];
  const covers = (one) => taken.some((other) => one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom);
  return labels.map(({ at: [px, py], text }) => {
    const size = LETTER.width * text.length;
    let first = null;
    for (let distance = 0; distance < height; distance += LETTER.height) {
      for (const dy of distance ? [-distance, distance] : [0]) {
        for (const side of [1, -1]) {
          const left = side > 0 ? px + 11 : px - 11 - size;
          const base = py - 6 + dy;
          const box = { left, right: left + size, top: base - LETTER.height + 3, bottom: base + 3 };
          if (box.left < MARGIN.left || box.right > width || box.top < 0 || box.bottom > height - MARGIN.bottom) continue;
          const place = { x: side > 0 ? left : px - 11, y: base, anchor: side > 0 ? "start" : "end" };
          first ??= [place, box];
          if (covers(box)) continue;
          taken.push(box);
          return place;
        }
      }
    }
    const [place, box] = first ?? [{ x: px + 11, y: py - 6, anchor: "start" }, null];
    if (box) taken.push(box);
    return place;
  });
}

/** Call `draw(width)` now and whenever the node's width changes. */
export function fitted(node, draw) {
  let last = 0;
  const observer = new ResizeObserver(() => {
    const width = Math.floor(node.clientWidth);
    if (width < 50 || width === last) return;
    last = width;
    draw(width);
  });
  observer.observe(node);
  return () => last && draw(last);
}

/** The frame of a drawing; `label` describes it to screen readers. */
export function frame(width, height, label, ...children) {
  return s("svg", { class: "chart", role: "img", "aria-label": label, viewBox: `0 0 ${width} ${height}`, width, height }, children);
}
