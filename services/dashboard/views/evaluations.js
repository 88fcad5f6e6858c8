/** Evaluations of students and teachers on labelled tasks. */

import { getIfThere } from "../api.js";
import { h, replace, whenChanged } from "../dom.js";
import { trimmed, when } from "../format.js";
import { poll } from "../poll.js";
import { link } from "../router.js";
import { badge, hasEnded, table } from "../widgets.js";

const COLUMNS = ["Evaluation", "Status", "Model", "Score", "Seeds", "Submitted"];

export function evaluationsView(_found, query, signal) {
  const list = h("div", {}, h("p", { class: "empty" }, "Loading …"));
  const draw = whenChanged((page) => replace(list, page ? pageOf(page) : h("p", { class: "empty" }, "This service has no evaluations.")));
  poll(
    async () => {
      const page = await getIfThere(`/v1/evaluations?${query}`, signal);
      draw(page);
      if (!page) return 0;
      return page.evaluations.some((one) => !hasEnded(one.status)) ? 2000 : 5000;
    },
    signal,
    list,
    draw,
  );
  return { title: "Evaluations", node: h("div", {}, h("p", {}, h("a", { class: "button", href: "#/evaluations/new" }, "Evaluate a model")), list) };
}

function pageOf({ evaluations, next }) {
  return [
    table("Evaluations, newest first", COLUMNS, evaluations.map(row), "Nothing has been evaluated yet."),
    next && h("nav", { class: "pages", "aria-label": "Pages" }, h("a", { href: link("/evaluations", { after: next }) }, "Older")),
  ];
}

/** "accuracy 0.9123 ± 0.004". */
export function scoreText({ metric, mean, std }) {
  return `${metric} ${trimmed(mean, 4)}${std === null ? "" : ` ± ${trimmed(std, 2)}`}`;
}

/** The evaluated model. */
export function modelLink(model) {
  if (!model) return "–";
  const { compression, student, teacher } = model;
  return compression ? h("a", { href: `#/compressions/${encodeURIComponent(compression)}` }, student) : teacher.model;
}

function row(one) {
  const { model, result } = one;
  return [
    [h("a", { href: `#/evaluations/${encodeURIComponent(one.id)}` }, one.name), h("span", { class: "small block" }, one.id)],
    [badge(one.status), one.reason && h("span", { class: "small reason" }, one.reason)],
    modelLink(model),
    result ? [scoreText(result), h("span", { class: "small block" }, `always the same answer: ${trimmed(result.baseline.score, 4)}`)] : "–",
    result?.seeds ? result.seeds.map(({ score }) => trimmed(score, 4)).join(", ") : "–",
    when(one.created_at),
  ];
}
