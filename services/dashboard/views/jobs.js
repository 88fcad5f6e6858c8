/** The compressions, newest first. */

import { get } from "../api.js";
import { Bulk, MOST } from "../bulk.js";
import { h, replace, whenChanged } from "../dom.js";
import { loss, short, teacherName, times, when } from "../format.js";
import { poll } from "../poll.js";
import { go, link } from "../router.js";
import { badge, hasEnded, progressCell, table, took } from "../widgets.js";
import { clusterLine } from "./cluster.js";
import { COMPRESSION_LOSSES } from "./job-head.js";

const STATUSES = ["queued", "running", "succeeded", "failed", "cancelling", "cancelled"];
const SIZES = [25, 50, 100, MOST]; // of a page
const COLUMNS = ["Compression", "Status", "Teacher", "Students", "Loss", "Size", "Speed-up", "Submitted"];

export function jobsView(_found, query, signal) {
  const list = h("div", { class: "compact", "aria-live": "off" }, h("p", { class: "empty" }, "Loading …"));
  const pages = h("nav", { class: "pages", "aria-label": "Pages" });
  const follow = (next) => poll(async () => next(await look()), signal, list, draw);
  const bulk = new Bulk({ list: "compressions", noun: "compression", losses: COMPRESSION_LOSSES, wake: () => follow(() => 0) }, signal);
  const draw = whenChanged((page) => drawPage(page, { list, pages, bulk }, query));
  const look = async () => {
    const page = await get(`/v1/compressions?${asked(query)}`, signal);
    draw(page);
    return page.compressions;
  };
  follow((jobs) => (jobs.some((job) => !hasEnded(job.status)) ? 1500 : 5000));
  return { title: "Compressions", node: h("div", {}, clusterLine(signal), filters(query, signal), bulk.node, list, pages) };
}

function sizeOf(query) {
  return SIZES.find((one) => String(one) === query.get("limit")) ?? SIZES[0];
}

function asked(query) {
  const sent = new URLSearchParams(query);
  sent.set("limit", sizeOf(query));
  return sent;
}

function drawPage({ compressions, next }, { list, pages, bulk }, query) {
  const filtered = [...FILTERS, "after"].some((name) => query.has(name));
  bulk.shows(compressions.map((job) => job.id));
  replace(
    list,
    compressions.length || filtered
      ? table("Compressions, newest first", COLUMNS, compressions.map((job) => row(job, bulk)), "No compression fits these filters.")
      : welcome(),
  );
  const others = { ...filtersOf(query), limit: query.get("limit") };
  replace(
    pages,
    query.has("after") && h("a", { href: link("/compressions", others) }, "Newest"),
    next && h("a", { href: link("/compressions", { ...others, after: next }) }, "Older"),
    (next || sizeOf(query) > SIZES[0]) && sizes(query),
  );
}

function sizes(query) {
  const choice = h("select", { id: "page-size", onchange: () => go("/compressions", { ...filtersOf(query), limit: choice.value }) }, SIZES.map((one) => h("option", { value: one }, one)));
  choice.value = String(sizeOf(query));
  return h("span", { class: "field inline" }, h("label", { for: "page-size" }, "On a page"), choice);
}

function welcome() {
  return h(
    "div",
    { class: "empty" },
    h("p", {}, "Nothing has been compressed here yet."),
    h("p", {}, h("a", { class: "button main", href: "#/new" }, "Compress a model")),
  );
}

function row(job, bulk) {
  const labels = Object.entries(job.labels ?? {});
  return [
    [
      h("span", { class: "ticked" }, bulk.boxOf(job.id), h("a", { href: `#/compressions/${encodeURIComponent(job.id)}` }, job.id)),
      labels.length > 0 && h("span", { class: "labels" }, labels.map(([name, value]) => h("span", { class: "label" }, `${name}: ${value}`))),
      job.batch && h("a", { class: "small block batch", href: `#/batches/${encodeURIComponent(job.batch)}` }, job.batch),
    ],
    [
      badge(job.status),
      job.reason && h("span", { class: "small reason" }, job.reason),
      ["running", "cancelling"].includes(job.status) && h("span", { class: "block progress" }, progressCell(job)),
    ],
    h("span", { title: job.teacher }, teacherName(job)),
    ...students(job.students ?? []),
    [
      h("time", { datetime: job.created_at }, when(job.created_at)),
      job.started_at && h("span", { class: "small block took" }, job.finished_at ? "took " : "so far ", took(job)),
    ],
  ];
}

/** Cells with a line for each student: its budget, loss, size and speed-up. */
function students(found) {
  const lines = (text) => found.map((one) => h("span", { class: "block line" }, text(one)));
  return [
    lines((one) => one.budget),
    lines((one) => [h("span", { class: "narrow" }, "loss "), loss(one.heldout_loss)]),
    lines((one) => [short(one.params), h("span", { class: "narrow" }, " params")]),
    found.some((one) => one.speed_up) ? lines((one) => (one.speed_up ? times(one.speed_up) : "–")) : [],
  ];
}

const FILTERS = ["status", "teacher", "label", "batch"];

function filtersOf(query) {
  return Object.fromEntries(FILTERS.map((name) => [name, query.getAll(name)]));
}

function filters(query, signal) {
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
      limit: query.get("limit"),
    });
  };
  fields.status.addEventListener("change", () => apply());
  const form = h(
    "form",
    { class: "filters", role: "search", "aria-label": "Filter compressions", onsubmit: apply },
    Object.entries({ status: "Status", teacher: "Teacher", label: "Labels", batch: "Batch" }).map(([name, text]) =>
      h("div", { class: "field" }, h("label", { for: `filter-${name}` }, text), fields[name]),
    ),
    h("button", { type: "submit" }, "Filter"),
  );
  const part = h("details", { class: "filter-part" }, h("summary", {}, "Filters"), form);
  const wide = matchMedia("(min-width: 46rem)");
  const open = () => (part.open = wide.matches || FILTERS.some((name) => query.has(name)));
  wide.addEventListener("change", open, { signal });
  open();
  return part;
}
