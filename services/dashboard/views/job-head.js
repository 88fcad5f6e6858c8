/** The head of a compression's page: its status, the reason for the status, and its labels. */

import { actions } from "../actions.js";
import { h } from "../dom.js";
import { duration, short, when } from "../format.js";
import { badge, errorPart, facts, hasEnded, opens, table, took } from "../widgets.js";

/** What is lost when compressions are cancelled or deleted. */
export const COMPRESSION_LOSSES = {
  cancel: "What is finished is kept: it can be resumed later.",
  delete: "The record, the selections, the students’ evaluations and their folders go. Students’ files stay in the storage, but the page finds them no more.",
};

export function head(job, wake) {
  const labels = Object.entries(job.request?.labels ?? {});
  return h(
    "section",
    { class: "card head", "aria-label": "State" },
    h("p", { class: "state" }, badge(job.status), job.attempt > 1 && h("span", { class: "small" }, `attempt ${job.attempt}`)),
    job.reason && h("p", { class: "reason" }, h("b", {}, "Why: "), job.reason),
    job.error && errorPart(job.error),
    !hasEnded(job.status) && job.ray.state !== "ready" && h("p", { class: "note" }, `Ray is ${job.ray.state}: ${job.ray.note}`),
    facts([
      ["Teacher", h("span", { class: "wraps" }, job.request?.teacher?.model ?? "–")],
      ["Its kind", job.teacher?.kind],
      ["Its size", job.teacher?.params && `${short(job.teacher.params)} parameters, ${short(job.teacher.flops)} FLOPs at ${job.teacher.sequence_length} tokens`],
      ["Submitted", when(job.created_at)],
      [job.finished_at ? "Took" : "So far", job.started_at ? took(job) : null],
      ["Planned", job.planned && planned(job.planned)],
      ["Batch", job.batch && h("a", { href: `#/batches/${encodeURIComponent(job.batch)}` }, job.batch)],
      ["Labels", labels.length ? h("span", { class: "labels" }, labels.map(([name, value]) => h("span", { class: "label" }, `${name}: ${value}`))) : null],
    ]),
    actions({
      noun: "compression",
      one: job,
      list: "compressions",
      wake,
      losses: COMPRESSION_LOSSES,
    }, h("a", { class: "button", href: `#/new?from=${encodeURIComponent(job.id)}` }, "Submit one like it")),
    job.attempts.length > 1 && opens("Attempts", attempts(job.attempts)),
  );
}

function planned({ plan, seconds, error }) {
  const off = error === null ? "" : `, ${error >= 0 ? "+" : "−"}${Math.abs(100 * error).toFixed(0)} % in the end`;
  return h("a", { href: `#/plans/${encodeURIComponent(plan)}` }, `${duration(seconds)}${off}`);
}

function attempts(list) {
  return table(
    "Attempts",
    ["Attempt", "Status", "Why", "Began", "Ended"],
    list.map((one) => [one.number, badge(one.status), one.reason ?? "–", when(one.started_at), when(one.finished_at)]),
    "None yet.",
  );
}
