/** The compressions, newest first. */

import { get } from "../api.js";
import { h, replace, whenChanged } from "../dom.js";
import { loss, short, teacherName, times, when } from "../format.js";
import { poll } from "../poll.js";
import { go, link } from "../router.js";
import { badge, hasEnded, progressCell, table, took } from "../widgets.js";
import { clusterLine } from "./cluster.js";

const STATUSES = ["queued", "running", "succeeded", "failed", "cancelling", "cancelled"];
const PAGE = 25;
const COLUMNS = ["Compression", "Status", "Teacher", "Progress", "Students", "Submitted", "Took"];

export function jobsView(_found, query, signal) {
  const list = h("div", { class: "compact", "aria-live": "off" }, h("p", { class: "empty" }, "Loading …"));
  const pages = h("nav", { class: "pages", "aria-label": "Pages" });
  const draw = whenChanged((page) => drawPage(page, list, pages, query));
  poll(
    async () => {
      const page = await get(`/v1/compressions?${asked(query)}`, signal);
      draw(page);
      return page.compressions.some((job) => !hasEnded(job.status)) ? 1500 : 5000;
    },
    signal,
    list,
    draw,
  );
  return { title: "Compressions", node: h("div", {}, clusterLine(signal), filters(query), list, pages) };
}

function asked(query) {
  const sent = new URLSearchParams(query);
  sent.set("limit", PAGE);
  return sent;
}

function drawPage({ compressions, next }, list, pages, query) {
  const filtered = ["status", "teacher", "label", "batch", "after"].some((name) => query.has(name));
  replace(
    list,
    compressions.length || filtered
      ? table("Compressions, newest first", COLUMNS, compressions.map(row), "No compression fits these filters.")
      : welcome(),
  );
  const others = Object.fromEntries([...new Set(query.keys())].filter((name) => name !== "after").map((name) => [name, query.getAll(name)]));
  replace(
    pages,
    query.has("after") && h("a", { href: link("/compressions", others) }, "Newest"),
    next && h("a", { href: link("/compressions", { ...others, after: next }) }, "Older"),
  );
}

function welcome() {
  return h(
    "div",
    { class: "empty" },
    h("p", {}, "Nothing has been compressed here yet."),
    h("p", {}, h("a", { class: "button main", href: "#/new" }, "Compress a model")),
  );
}

function row(job) {
  const labels = Object.entries(job.labels ?? {});
  return [
    [
      h("a", { href: `#/compressions/${encodeURIComponent(job.id)}` }, job.id),
      labels.length > 0 && h("span", { class: "labels" }, labels.map(([name, value]) => h("span", { class: "label" }, `${name}: ${value}`))),
      job.batch && h("a", { class: "small", href: `#/batches/${encodeURIComponent(job.batch)}` }, job.batch),
    ],
    [badge(job.status), job.reason && h("span", { class: "small reason" }, job.reason)],
    h("span", { title: job.teacher }, teacherName(job)),
    progressCell(job),
    students(job.students ?? []),
    h("time", { datetime: job.created_at }, when(job.created_at)),
    [took(job), job.started_at && !job.finished_at && " so far"],
  ];
}

/** A line for each student: loss, size and speed-up. */
function students(found) {
  return found.map((one) => h("span", { class: "small block" }, [
    `${one.budget}: loss ${loss(one.heldout_loss)}`,
    `${short(one.params)} parameters`,
    one.speed_up && `${times(one.speed_up)} as fast`,
  ].filter(Boolean).join(", ")));
}

function filters(query) {
  const fields = {
    status: h("select", { id: "filter-status" }, h("option", { value: "" }, "any"), STATUSES.map((one) => h("option", { value: one }, one))),
    teacher: h("input", { id: "filter-teacher", value: query.get("teacher") ?? "", placeholder: "as the request names it" }),
    label: h("input", { id: "filter-label", value: query.getAll("label").join(" "), placeholder: "team:search" }),
    batch: h("input", { id: "filter-batch", value: query.get("batch") ?? "", placeholder: "bat_…" }),
  };
  fields.status.value = query.get("status") ?? "";
  const apply = (event) => {
    event?.preventDefault();
    const { status, teacher, label, batch } = fields;
    go("/compressions", {
      status: status.value,
      teacher: teacher.value.trim(),
      label: label.value.split(/\s+/).filter(Boolean),
      batch: batch.value.trim(),
    });
  };
  fields.status.addEventListener("change", () => apply());
  return h(
    "form",
    { class: "filters", role: "search", "aria-label": "Filter compressions", onsubmit: apply },
    Object.entries({ status: "Status", teacher: "Teacher", label: "Labels", batch: "Batch" }).map(([name, text]) =>
      h("div", { class: "field" }, h("label", { for: `filter-${name}` }, text), fields[name]),
    ),
    h("button", { type: "submit" }, "Filter"),
  );
}
