/** Plans: estimates of a compression before it is run. */

import { get, path } from "../api.js";
import { announce, h, replace, whenChanged } from "../dom.js";
import { labelOf } from "../form/request-fields.js";
import { duration, trimmed, whole } from "../format.js";
import { poll } from "../poll.js";
import { badge, facts, hasEnded, section, table } from "../widgets.js";
import { logPart } from "./log.js";
import { Steps } from "./steps.js";

export function planView({ id }, _query, signal) {
  const part = new PlanPart(signal);
  part.follow({ id, status: "queued", steps: [] });
  return { title: `Plan ${id}`, node: part.node };
}

export class PlanPart {
  constructor(signal) {
    this.signal = signal;
    this.node = h("div");
  }

  /** Show a plan and poll it until it has ended. */
  follow(plan) {
    const steps = new Steps();
    const place = h("div");
    const draw = whenChanged((one) => replace(place, planPart(one)));
    replace(this.node, place, steps.node, logPart("plans", plan.id, this.signal));
    this.current = plan.id;
    const show = (one) => {
      draw({ ...one, steps: undefined });
      steps.show(one.steps ?? [], hasEnded(one.status));
    };
    show(plan);
    poll(
      async () => {
        if (this.current !== plan.id) return 0; // another plan was asked for
        const one = await get(path("plans", plan.id), this.signal);
        show(one);
        if (!hasEnded(one.status)) return 1000;
        announce(`The plan is ${one.status}.`);
        return 0;
      },
      this.signal,
      place,
      draw,
    );
  }
}

function planPart(one) {
  return section(
    "The plan",
    h("p", { class: "state" }, badge(one.status), " ", h("a", { class: "small", href: `#/plans/${encodeURIComponent(one.id)}` }, one.id)),
    one.reason && h("p", { class: "reason" }, h("b", {}, "Why: "), one.reason),
    one.error && h("p", { class: "problem" }, `${one.error.field ? `${labelOf(one.error.field)}: ` : ""}${one.error.message} ${one.error.remedy ?? ""}`),
    !one.plan && !hasEnded(one.status) && h("p", { class: "note" }, "A few real steps are measured; nothing is trained."),
    one.plan && found(one.plan),
  );
}

function found(plan) {
  const spaces = Object.keys(plan.candidates);
  return [
    facts([
      ["Teacher", plan.teacher && `${plan.teacher.kind}: ${plan.teacher.gives}`],
      ["Time", duration(plan.seconds)],
      ["Device-hours", `${trimmed(plan.device_hours, 3)} on ${plan.device}`],
      ["Measured in", duration(plan.calibration_seconds)],
    ]),
    h("h3", {}, "Which sub-spaces can meet the budgets"),
    table(
      "Candidates of each sub-space that meet a budget",
      ["Budget", ...spaces, "Met"],
      plan.budgets.map((budget) => [
        budget.budget,
        ...spaces.map((name) => `${whole(budget.candidates[name] ?? 0)} of ${whole(plan.candidates[name])}`),
        [budget.feasible ? "yes" : "no", budget.note && h("span", { class: "small block" }, budget.note)],
      ]),
      "There is no budget.",
    ),
    h("h3", {}, "Time by step"),
    table(
      "Time by step",
      ["Step", "Time", "Rests on"],
      plan.steps.map((step) => [step.name, step.reused ? "none: found again" : duration(step.seconds), step.basis]),
      "There is no step.",
    ),
  ];
}
