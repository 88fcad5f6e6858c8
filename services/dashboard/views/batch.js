/** One batch: each compression's state, and the results across teachers. */

import { actions } from "../actions.js";
import { get, getBlob, getIfThere, path } from "../api.js";
import { save } from "../download.js";
import { announce, h, replace, whenChanged } from "../dom.js";
import { loss, shape, short, teacherName, trimmed, when } from "../format.js";
import { poll } from "../poll.js";
import { actionButton, badge, facts, hasEnded, progressCell, section, table } from "../widgets.js";
import { countsText } from "./batches.js";

export function batchView({ id }, _query, signal) {
  const place = h("div", {}, h("p", { class: "empty" }, "Loading …"));
  const results = h("div");
  const draw = whenChanged((batch) => replace(place, parts(batch, wake)));
  const drawResults = whenChanged((rows) => replace(results, resultsPart(id, rows)));
  let status = null;
  let busy = null;
  const look = async () => {
    const batch = await get(path("batches", id), signal);
    if (status && status !== batch.status) announce(`The batch is ${batch.status}.`);
    status = batch.status;
    draw(batch);
    const found = await getIfThere(path("batches", id, "results"), signal);
    if (found) drawResults(found.results);
    return hasEnded(batch.status) ? 0 : 2000;
  };
  function wake() {
    busy ??= poll(look, signal, place, draw).finally(() => {
      busy = null;
    });
  }
  wake();
  return { title: id, node: h("div", {}, place, results) };
}

function parts(batch, wake) {
  return [
    h(
      "section",
      { class: "card head", "aria-label": "State" },
      h("p", { class: "state" }, badge(batch.status), h("span", { class: "small" }, countsText(batch.counts))),
      facts([
        ["Name", batch.name],
        ["Submitted", when(batch.created_at)],
        ["Ended", batch.finished_at && when(batch.finished_at)],
        ["At the same time", batch.max_running],
        ["Labels", Object.keys(batch.labels ?? {}).length ? Object.entries(batch.labels).map(([name, value]) => h("span", { class: "label" }, `${name}: ${value}`)) : null],
      ]),
      actions({
        noun: "batch",
        one: batch,
        list: "batches",
        wake,
        again: "retry",
        losses: {
          cancel: "Compressions that have succeeded stay; the others are cancelled.",
          delete: "Its compressions are deleted with it.",
        },
      }, h("a", { class: "button", href: `#/compressions?batch=${encodeURIComponent(batch.id)}` }, "Its compressions")),
    ),
    section(
      "Compressions",
      table(
        "Compressions of the batch",
        ["Compression", "Status", "Teacher", "Progress"],
        batch.compressions.map((one) => [
          h("a", { href: `#/compressions/${encodeURIComponent(one.id)}` }, one.id),
          [badge(one.status), one.reason && h("span", { class: "small reason" }, one.reason)],
          [h("span", { title: one.teacher }, teacherName(one)), one.teacher_kind && h("span", { class: "small block" }, one.teacher_kind)],
          progressCell(one),
        ]),
        "It has no compression.",
      ),
    ),
  ];
}

function resultsPart(id, rows) {
  if (!Array.isArray(rows) || !rows.length) return [];
  return section(
    "Results",
    table("Students across teachers", ["Student", "Teacher", "Budget", "Shape", "Parameters", "FLOPs", "Held-out loss", "Latency"], rows.map(resultRow), ""),
    h("div", { class: "actions" }, actionButton("Save as CSV", async () => save(await getBlob(path("batches", id, "results"), undefined, { Accept: "text/csv" }), `${id}.csv`))),
  );
}

function resultRow(row) {
  return [
    h("a", { href: `#/compressions/${encodeURIComponent(row.compression)}` }, row.student ?? "none meets it"),
    h("span", { title: row.teacher }, teacherName(row)),
    row.budget,
    row.architecture ? [row.outcome === "infeasible" && "nearest: ", `${row.subspace}: ${shape(row.architecture)}`] : "–",
    short(row.params),
    row.flops === null ? "–" : `${short(row.flops)} at ${row.sequence_length}`,
    loss(row.heldout_loss),
    row.latency_ms_p50 === null ? "–" : `${trimmed(row.latency_ms_p50, 3)} ms on ${row.latency_target}`,
  ];
}
