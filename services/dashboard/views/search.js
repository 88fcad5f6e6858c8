/** The search's candidates as a scatter plot, with a movable budget. */

import { freshKey, get, path, post } from "../api.js";
import { COSTS, Cloud, describe, identity } from "../cloud.js";
import { h, replace, whenChanged } from "../dom.js";
import { loss, overBest, shape, short, whole } from "../format.js";
import { poll } from "../poll.js";
import { actionButton, opens, section, table } from "../widgets.js";
import { SelectionList } from "./selections.js";

const STEPS = 400; // of the slider
const MOST = 1e15; // of a budget: from 1e21 on, numbers are written with an exponent, which names do not allow

export class SearchPart {
  constructor(job, signal) {
    this.id = job;
    this.signal = signal;
    this.cost = "params";
    this.cloud = new Cloud();
    this.status = h("div", { class: "empty" }, "Loading the candidates …");
    this.slider = h("input", { type: "range", min: 0, max: STEPS, value: STEPS, id: "budget", "aria-describedby": "best" });
    this.number = h("input", { type: "number", min: 1, step: "any", id: "budget-number", inputmode: "numeric", "aria-describedby": "budget-problem" });
    this.trouble = h("p", { id: "budget-problem", class: "problem", role: "alert", hidden: true });
    this.best = h("output", { id: "best", class: "best", for: "budget budget-number", "aria-live": "polite" });
    this.front = h("div");
    this.selections = new SelectionList(job, signal, (students) => this.chosen(students));
    this.controls = h("div", { hidden: true });
    this.node = section("Candidates", this.status, this.controls);
    this.build();
    this.load = whenChanged((asked) => poll(() => this.fetch(asked), signal, this.status));
  }

  build() {
    const choice = h("select", { id: "cost", onchange: () => this.choose(choice.value) }, Object.entries(COSTS).map(([name, one]) => h("option", { value: name }, one.name)));
    this.slider.addEventListener("input", () => this.set(this.valueAt(Number(this.slider.value)), true));
    this.number.addEventListener("change", () => this.set(Number(this.number.value)));
    replace(
      this.controls,
      h("div", { class: "field inline" }, h("label", { for: "cost" }, "Cost"), choice),
      this.cloud.node,
      h(
        "div",
        { class: "budget-controls" },
        h("div", { class: "field grows" }, h("label", { for: "budget" }, "Budget"), this.slider),
        h("div", { class: "field" }, h("label", { for: "budget-number" }, "At most"), this.number),
      ),
      this.trouble,
      h("p", {}, this.best),
      h("div", { class: "actions" }, actionButton("Make this student", () => this.select(), { class: "main" })),
      opens("The frontier as a table", this.front),
      this.selections.node,
    );
  }

  /** Show a finished job's search. */
  show(job) {
    this.teacher = job.teacher;
    this.length = job.teacher?.sequence_length;
    this.own = job.students;
    this.load({ cost: this.cost, length: this.length });
  }

  async choose(cost) {
    this.cost = cost;
    this.budget = undefined;
    this.load({ cost, length: this.length });
  }

  async fetch({ cost, length }) {
    if (!this.candidates) this.candidates = await this.allCandidates(length);
    const front = await get(`${path("compressions", this.id, "frontier")}?cost=${cost}${atLength(length)}`, this.signal);
    if (cost !== this.cost) return; // another cost was chosen meanwhile
    this.points = front.points;
    replace(this.status, this.points.length === 0 && "The search has left no candidate to choose from.");
    this.controls.hidden = this.points.length === 0;
    if (!this.points.length) return;
    this.draw();
    this.set(this.budget ?? this.points.at(-1)[cost]);
    this.selections.start();
  }

  async allCandidates(length) {
    const found = [];
    let after = "0";
    while (after !== null) {
      const page = await get(`${path("compressions", this.id, "candidates")}?limit=1000&after=${after}${atLength(length)}`, this.signal);
      found.push(...page.candidates);
      after = page.next;
    }
    return found;
  }

  /** Mark students of selections beside the job's own. */
  chosen(students) {
    this.later = students;
    this.draw();
  }

  draw() {
    if (!this.points?.length) return;
    const chosen = new Map();
    for (const one of [...this.own, ...(this.later ?? [])]) {
      const key = identity(one);
      const names = chosen.get(key) ?? [];
      if (!names.includes(one.budget)) chosen.set(key, [...names, one.budget]);
    }
    const { cost } = this;
    this.cloud.show({ cost, costName: this.costName(), candidates: this.candidates, front: this.points, teacher: this.teacher?.[cost] ?? null, chosen });
    const over = overBest(this.points.map((one) => one.over_best));
    replace(
      this.front,
      table(
        "The frontier, the cheapest first",
        ["Shape", "Parameters", `FLOPs at ${this.length} tokens`, "Held-out loss", "Over the best"],
        this.points.map((one, index) => [
          `${one.subspace}: ${shape(one.architecture)}`,
          whole(one.params),
          whole(one.flops),
          loss(one.heldout_loss),
          over[index],
        ]),
        "Empty.",
      ),
    );
  }

  costName() {
    return this.cost === "flops" ? `FLOPs at ${this.length} tokens` : COSTS[this.cost].name;
  }

  range() {
    const costs = this.candidates.map((one) => one[this.cost]);
    return [Math.log(0.97 * Math.min(...costs)), Math.log(1.03 * Math.max(...costs))];
  }

  valueAt(step) {
    const [low, high] = this.range();
    return Number(Math.exp(low + (step / STEPS) * (high - low)).toPrecision(4));
  }

  /** Set the budget: its best candidate is the last of the frontier that costs no more. */
  set(asked, bySlider = false) {
    const good = asked >= 1 && asked <= MOST;
    if (good) this.budget = Math.floor(asked);
    this.trouble.hidden = good;
    this.trouble.textContent = good ? "" : `A budget is a number from 1 to ${whole(MOST)}; it stays at ${whole(this.budget)}.`;
    const [low, high] = this.range();
    const { cost } = this;
    this.found = this.points.findLast((one) => one[cost] <= this.budget) ?? null;
    if (!bySlider) this.slider.value = String(Math.round((STEPS * (Math.log(this.budget) - low)) / (high - low)));
    this.slider.setAttribute("aria-valuetext", `${short(this.budget)} ${this.costName()}`);
    this.number.value = String(this.budget);
    this.best.textContent = this.found ? `Best: ${describe(this.found)}` : `Nothing has at most ${whole(this.budget)} ${this.costName()}; the cheapest has ${whole(this.points[0][cost])}.`;
    this.cloud.mark(this.budget, this.found);
  }

  async select() {
    const { limit } = COSTS[this.cost];
    const more = this.cost === "flops" ? { sequence_length: this.length } : {};
    const budget = { name: `${this.cost}-${this.budget}`, [limit]: this.budget, ...more };
    const made = await post(path("compressions", this.id, "selections"), { budgets: [budget] }, { once: freshKey() });
    this.selections.add(made);
  }
}

// Without a known length, the service uses its default for the teacher.
function atLength(length) {
  return length ? `&sequence_length=${length}` : "";
}
