/** Loss curves of a SuperLM in training: one for its largest subnet, one for its smallest. */

import { MARGIN, axes, fitted, frame, linePath, linear } from "./chart.js";
import { h, replace, s } from "./dom.js";
import { short, trimmed } from "./format.js";

const HEIGHT = 170;

export class LossCurve {
  /** @param {string} name of the SuperLM. */
  constructor(name) {
    this.name = name;
    this.series = new Map();
    this.unit = "tokens";
    this.plot = h("div", { class: "plot" });
    this.legend = h("p", { class: "legend" });
    this.node = h("div", { class: "curve", hidden: true }, this.plot, this.legend);
    this.redraw = fitted(this.plot, (width) => this.draw(width));
    this.asked = false;
  }

  /** Add the point of an event `metrics`. A new attempt drops the points after its checkpoint. */
  add({ done, ...data }) {
    for (const [key, value] of Object.entries(data)) {
      if (!key.startsWith("loss") || typeof value !== "number") continue;
      const points = this.series.get(key) ?? [];
      while (points.length && points.at(-1)[0] >= done) points.pop();
      points.push([done, value]);
      this.series.set(key, points);
    }
    if (!this.series.size || this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.node.hidden = false;
      this.redraw();
    });
  }

  draw(width) {
    const all = [...this.series.values()].flat();
    if (!all.length) return;
    const xs = all.map(([x]) => x);
    const ys = all.map(([, y]) => y);
    const x = linear([Math.min(...xs), Math.max(...xs)], [MARGIN.left, width - MARGIN.right]);
    const y = linear([Math.min(...ys), Math.max(...ys)], [HEIGHT - MARGIN.bottom, MARGIN.top]);
    x.text = short;
    const shown = [...this.series].map(([key, points], index) => ({
      word: key.replace(/^loss_?/, "").replaceAll("_", " ") || "loss",
      latest: trimmed(points.at(-1)[1], 3),
      pixels: points.map(([px, py]) => [x(px), y(py)]),
      index,
    }));
    const label = `Loss of ${this.name} over ${short(Math.max(...xs))} ${this.unit}: ${shown.map((one) => `${one.word} ${one.latest}`).join(", ")}`;
    replace(
      this.plot,
      frame(
        width,
        HEIGHT,
        label,
        axes({ x, y, width, height: HEIGHT, xName: this.unit, yName: "loss" }),
        shown.map(({ pixels, index }) => [
          s("path", { class: `line series-${index}`, d: linePath(pixels) }),
          s("circle", { class: `end series-${index}`, cx: pixels.at(-1)[0], cy: pixels.at(-1)[1], r: 3 }),
        ]),
      ),
    );
    replace(
      this.legend,
      shown.map(({ word, latest, index }) => h("span", { class: `key series-${index}` }, `${word} `, h("b", {}, latest))),
    );
  }
}
