/** New budgets on a finished compression: answered at once, followed until their files are there. */

import { get, path } from "../api.js";
import { announce, h, replace, whenChanged } from "../dom.js";
import { when } from "../format.js";
import { poll } from "../poll.js";
import { badge, hasEnded } from "../widgets.js";
import { logPart } from "./log.js";
import { infeasibleTable, studentCards } from "./students.js";

export class SelectionList {
  /** @param {Function} changed called with the students of all selections. */
  constructor(job, signal, changed) {
    this.id = job;
    this.signal = signal;
    this.changed = changed;
    this.known = new Map();
    this.list = h("ul", { class: "selections" });
    this.problem = h("div");
    this.part = h("div", { hidden: true }, h("h3", {}, "Selections"), this.list);
    this.node = h("div", {}, this.problem, this.part);
    this.started = false;
  }

  /** Show earlier selections. */
  start() {
    if (this.started) return;
    this.started = true;
    poll(async () => {
      const page = await get(`${path("compressions", this.id, "selections")}?limit=20`, this.signal);
      replace(this.problem);
      for (const selection of page.selections.toReversed()) this.add(selection);
    }, this.signal, this.problem);
  }

  /** Show a selection, the newest first, and follow it. */
  add(selection) {
    if (!this.known.has(selection.id)) {
      const node = h("div");
      this.known.set(selection.id, { node, draw: whenChanged((one) => replace(node, this.describe(one))), last: selection });
      this.list.prepend(h("li", { class: "selection", "data-selection": selection.id }, node, logPart("selections", selection.id, this.signal)));
    }
    const { node, draw } = this.known.get(selection.id);
    this.part.hidden = false;
    this.show(selection);
    if (hasEnded(selection.status)) return;
    poll(
      async () => {
        const one = await get(path("selections", selection.id), this.signal);
        this.show(one);
        if (!hasEnded(one.status)) return 1000;
        announce(`The selection is ${one.status}.`);
        return 0;
      },
      this.signal,
      node,
      draw,
    );
  }

  show(selection) {
    const known = this.known.get(selection.id);
    known.last = selection;
    known.draw({ ...selection, steps: undefined });
    this.changed([...this.known.values()].flatMap(({ last }) => last.students));
  }

  describe(one) {
    return [
      h("p", { class: "state" }, badge(one.status), h("span", { class: "small" }, ` ${one.id}, ${when(one.created_at)}`)),
      one.reason && h("p", { class: "reason" }, h("b", {}, "Why: "), one.reason),
      one.error && h("p", { class: "problem" }, `${one.error.message} ${one.error.remedy ?? ""}`),
      !hasEnded(one.status) && one.students.length > 0
        && h("p", { class: "note" }, "The shape is chosen; its files are being made."),
      one.unanswered.length > 0
        && h("p", { class: "note" }, `No answer before its latency target is measured: ${one.unanswered.join(", ")}.`),
      one.provisional && h("p", { class: "note" }, "Measuring or polishing may still change the choice."),
      one.note && h("p", { class: "note" }, one.note),
      one.students.length > 0 && studentCards(this.id, one.students, null),
      one.infeasible.length > 0 && infeasibleTable(one.infeasible),
    ];
  }
}
