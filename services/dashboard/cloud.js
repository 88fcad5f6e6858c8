/** The candidates of a search: loss against a cost, with the frontier, the chosen, the teacher's cost and a budget. */

import { MARGIN, axes, dotsPath, fitted, frame, linear, logarithmic, placeLabels, stairsPath } from "./chart.js";
import { h, replace, s } from "./dom.js";
import { loss, overBest, overBestText, shape, short } from "./format.js";

export const COSTS = {
  params: { name: "parameters", limit: "max_params" },
  flops: { name: "FLOPs", limit: "max_flops" },
};

/** Identity of a candidate. */
export function identity(candidate) {
  const { layers, hidden_size: hidden, heads, head_width: width, intermediate_size: ffn } = candidate.architecture;
  return JSON.stringify([candidate.subspace, layers, hidden, heads, width, ffn]);
}

export class Cloud {
  constructor() {
    this.plot = h("div", { class: "plot" });
    this.legend = h("p", { class: "legend" });
    this.readout = h("p", { class: "readout small", "aria-hidden": "true" }, "\u00a0");
    this.node = h("div", { class: "cloud" }, this.plot, this.legend, this.readout);
    this.redraw = fitted(this.plot, (width) => this.draw(width));
    this.plot.addEventListener("pointermove", (event) => this.tell(event));
    this.data = null;
  }

  /**
   * @param data `{cost, costName, candidates, front, teacher, chosen}`: `teacher` a cost or null, `chosen` a Map from
   *   identity to the names of the budgets.
   */
  show(data) {
    this.data = data;
    this.redraw();
  }

  /** Move the budget's line, and mark the best candidate under it. */
  mark(budget, best) {
    this.budget = { budget, best };
    this.placeBudget();
  }

  draw(width) {
    if (!this.data?.candidates.length) return;
    const { cost, costName, candidates, front, teacher, chosen } = this.data;
    const height = Math.max(240, Math.min(420, Math.round(width * 0.55)));
    const costs = [...candidates.map((one) => one[cost]), ...(teacher ? [teacher] : [])];
    const losses = candidates.map((one) => one.heldout_loss);
    const [low, high] = [Math.min(...costs), Math.max(...costs)];
    const x = logarithmic([low * 0.95, Math.max(high * 1.08, low * 1.1)], [MARGIN.left, width - MARGIN.right]);
    const gap = 0.05 * (Math.max(...losses) - Math.min(...losses) || 1);
    const y = linear([Math.min(...losses) - gap, Math.max(...losses) + gap], [height - MARGIN.bottom, MARGIN.top]);
    this.scales = { x, y, width, height };
    const at = (one) => [x(one[cost]), y(one.heldout_loss)];
    const subspaces = [...new Set(candidates.map((one) => one.subspace))];
    const marked = candidates.filter((one) => chosen.has(identity(one)));
    const names = marked.map((one) => chosen.get(identity(one)).join(", "));
    const labels = placeLabels(marked.map((one, index) => ({ at: at(one), text: names[index] })), width, height);
    this.budgetMarks = s("g", { class: "budget" });
    const label = `${candidates.length} candidates, held-out loss against ${costName}; ${front.length} on the frontier, ${marked.length} chosen. The table below has the frontier.`;
    replace(
      this.plot,
      frame(
        width,
        height,
        label,
        axes({ x, y, width, height, xName: `${costName}, log scale`, yName: "held-out loss" }),
        subspaces.flatMap((name, index) => {
          const own = candidates.filter((one) => one.subspace === name);
          return [
            s("path", { class: `dots series-${index % 8} dropped`, d: dotsPath(own.filter((one) => one.dropped_by).map(at)) }),
            s("path", { class: `dots series-${index % 8}`, d: dotsPath(own.filter((one) => !one.dropped_by).map(at)) }),
          ];
        }),
        s("path", { class: "front", d: stairsPath(front.map(at)) }),
        teacher && this.vertical("teacher", teacher, "teacher"),
        this.budgetMarks,
        marked.map((one, index) => this.star(at(one), names[index], labels[index])),
      ),
    );
    replace(
      this.legend,
      subspaces.map((name, index) => h("span", { class: `key series-${index % 8}` }, name)),
      candidates.some((one) => one.dropped_by) && h("span", { class: "key dropped" }, "left early"),
      h("span", { class: "key front" }, "frontier"),
      marked.length > 0 && h("span", { class: "key chosen" }, "chosen"),
      teacher && h("span", { class: "key teacher" }, "teacher’s cost"),
    );
    this.placeBudget();
  }

  vertical(kind, value, text) {
    const { x, height } = this.scales;
    const place = x(value);
    return s(
      "g",
      { class: kind },
      s("line", { x1: place, x2: place, y1: MARGIN.top, y2: height - MARGIN.bottom }),
      s("text", { x: place - 4, y: MARGIN.top + 10, "text-anchor": "end" }, text),
    );
  }

  star([px, py], name, { x, y, anchor }) {
    return s(
      "g",
      { class: "chosen" },
      s("path", { d: `M${px} ${py - 7}L${px + 7} ${py}L${px} ${py + 7}L${px - 7} ${py}Z` }),
      s("text", { x, y, "text-anchor": anchor }, name),
    );
  }

  placeBudget() {
    if (!this.budgetMarks || !this.budget) return;
    const { budget, best } = this.budget;
    const { x, y, height, width } = this.scales;
    const place = Math.max(MARGIN.left, Math.min(x(budget), width - MARGIN.right));
    replace(
      this.budgetMarks,
      s("rect", { x: MARGIN.left, y: MARGIN.top, width: place - MARGIN.left, height: height - MARGIN.top - MARGIN.bottom }),
      s("line", { x1: place, x2: place, y1: MARGIN.top, y2: height - MARGIN.bottom }),
      best && s("circle", { cx: x(best[this.data.cost]), cy: y(best.heldout_loss), r: 8 }),
    );
  }

  tell(event) {
    if (!this.scales) return;
    const box = this.plot.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    const { x, y } = this.scales;
    const { candidates, cost } = this.data;
    let nearest = null;
    let least = 400;
    for (const one of candidates) {
      const distance = (x(one[cost]) - px) ** 2 + (y(one.heldout_loss) - py) ** 2;
      if (distance < least) [nearest, least] = [one, distance];
    }
    this.readout.textContent = nearest ? describe(nearest) : "\u00a0";
  }
}

/** A candidate as a line of text. */
export function describe(one) {
  const gone = one.dropped_by ? `; left early: ${one.dropped_by}` : "";
  const over = one.over_best === undefined ? "" : ` (${overBestText(overBest([one.over_best])[0])})`; // of the frontier
  return `${shape(one.architecture)}, of ${one.subspace}; ${short(one.params)} parameters, ${short(one.flops)} FLOPs at ${one.sequence_length} tokens, loss ${loss(one.heldout_loss)}${over}${gone}`;
}
