/** The steps of a run with their progress; SuperLMs are children of one step, each with its loss curve. */

import { h, replace } from "../dom.js";
import { LossCurve } from "../curves.js";
import { bytes, duration, percent, short, trimmed } from "../format.js";
import { badge, bar } from "../widgets.js";

const CHILD = /^train-(.+)$/;
const SILENT = 10; // seconds without news from which a running step says so

export class Steps {
  constructor() {
    this.known = new Map();
    this.list = h("ol", { class: "steps" });
    this.children = h("ol", { class: "superlms" });
    this.train = h("li", { class: "step parent" }, h("div", { class: "line" }, h("span", { class: "name" }, "SuperLMs")), this.children);
    this.node = h("section", { class: "card", "aria-labelledby": "steps-title", hidden: true }, h("h2", { id: "steps-title" }, "Progress"), this.list);
  }

  /** Show the steps of the job's document. */
  show(steps, ended) {
    this.node.hidden = !steps.length && !this.known.size;
    for (const step of steps) this.entry(step.name).show(step, ended);
    const notes = new Set(steps.filter((step) => CHILD.test(step.name)).map((step) => step.note).filter(Boolean));
    for (const note of this.train.querySelectorAll(":scope > .note")) note.remove();
    for (const note of notes) this.children.before(h("p", { class: "note" }, note));
  }

  /** Add a point to a loss curve. */
  point({ step, total, ...data }) {
    this.node.hidden = false;
    this.entry(step).curve().add(data);
  }

  entry(name) {
    let found = this.known.get(name);
    if (!found) {
      const child = name.match(CHILD);
      found = new Entry(name, child ? child[1] : name, Boolean(child));
      this.known.set(name, found);
      (child ? this.children : this.list).append(found.node);
      if (child && !this.train.isConnected) this.list.append(this.train);
    }
    return found;
  }
}

class Entry {
  constructor(step, name, child) {
    this.name = name;
    this.child = child;
    this.status = h("span");
    this.numbers = h("span", { class: "numbers small" });
    this.bar = bar(`Progress of ${name}`, 0);
    this.note = h("p", { class: "note", hidden: true });
    this.node = h(
      "li",
      { class: "step", "data-step": step },
      h("div", { class: "line" }, h("span", { class: "name" }, name.replaceAll("-", " ")), this.status, this.numbers),
      this.bar,
      this.note,
    );
  }

  show(step, ended) {
    const status = ended && step.status === "running" ? "stopped" : step.status;
    replace(this.status, badge(status), step.reused && h("span", { class: "small" }, " finished earlier, used again"));
    const fraction = step.status === "succeeded" ? 1 : step.total ? Math.min(1, step.done / step.total) : 0;
    if (status === "running" && !step.total) this.bar.removeAttribute("value");
    else this.bar.value = fraction;
    this.bar.hidden = status === "pending" || (status === "succeeded" && !this.child);
    this.numbers.textContent = numbers(step, fraction, status);
    this.note.hidden = !step.note || this.child; // children have their parent's note
    this.note.textContent = step.note ?? "";
    if (this.drawn) this.drawn.unit = step.unit || this.drawn.unit;
  }

  curve() {
    if (!this.drawn) {
      this.drawn = new LossCurve(this.name);
      this.node.append(this.drawn.node);
    }
    return this.drawn;
  }
}

function numbers(step, fraction, status) {
  const amount = (value) => (step.unit === "bytes" ? bytes(value) : short(value));
  const unit = step.unit === "bytes" ? "" : ` ${step.unit}`;
  const parts = [];
  if (step.total && (status !== "succeeded" || !step.reused)) {
    if (status === "succeeded") parts.push(`${amount(step.total)}${unit}`);
    else if (status !== "pending") parts.push(`${percent(fraction)}, ${amount(step.done)} of ${amount(step.total)}${unit}`);
  }
  const lasting = status === "succeeded" && ["tokens", "bytes"].includes(step.unit);
  if (step.rate && (status === "running" || lasting)) parts.push(`${step.unit === "bytes" ? bytes(step.rate) : trimmed(step.rate, 3)}${unit} a second`);
  if (step.seconds_left !== null && status === "running") parts.push(`${duration(step.seconds_left)} left`);
  if (status === "running" && step.silent_seconds >= SILENT) parts.push(`no news for ${duration(step.silent_seconds)}`);
  return parts.join(" · ");
}
