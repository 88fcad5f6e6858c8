/** Batches, newest first. */

import { getIfThere } from "../api.js";
import { h, replace, whenChanged } from "../dom.js";
import { when } from "../format.js";
import { poll } from "../poll.js";
import { link } from "../router.js";
import { badge, hasEnded, table } from "../widgets.js";

export function batchesView(_found, query, signal) {
  const list = h("div", {}, h("p", { class: "empty" }, "Loading …"));
  const draw = whenChanged((page) => replace(list, page ? pageOf(page, query) : h("p", { class: "empty" }, "This service has no batches.")));
  const after = query.get("after");
  poll(
    async () => {
      const page = await getIfThere(`/v1/batches?limit=25${after ? `&after=${encodeURIComponent(after)}` : ""}`, signal);
      draw(page);
      if (!page) return 0;
      return page.batches.some((one) => !hasEnded(one.status)) ? 2000 : 5000;
    },
    signal,
    list,
    draw,
  );
  return { title: "Batches", node: h("div", {}, h("p", {}, h("a", { class: "button", href: "#/batches/new" }, "Submit a batch")), list) };
}

function pageOf({ batches, next }, query) {
  return [
    table("Batches, newest first", ["Batch", "Status", "Compressions", "Submitted", "Ended"], batches.map(row), "No batch has been submitted yet."),
    h("nav", { class: "pages", "aria-label": "Pages" }, query.has("after") && h("a", { href: "#/batches" }, "Newest"), next && h("a", { href: link("/batches", { after: next }) }, "Older")),
  ];
}

function row(batch) {
  const labels = Object.entries(batch.labels ?? {});
  return [
    [
      h("a", { href: `#/batches/${encodeURIComponent(batch.id)}` }, batch.name || batch.id),
      labels.length > 0 && h("span", { class: "labels" }, labels.map(([name, value]) => h("span", { class: "label" }, `${name}: ${value}`))),
    ],
    badge(batch.status),
    countsText(batch.counts),
    when(batch.created_at),
    when(batch.finished_at),
  ];
}

/** {"succeeded": 2, "failed": 1} as "2 succeeded, 1 failed". */
export function countsText(counts) {
  const some = Object.entries(counts ?? {}).filter(([, count]) => count > 0);
  return some.length ? some.map(([status, count]) => `${count} ${status}`).join(", ") : "–";
}
