/** Small parts that many views use. */

import { announce, freshId, h, replace } from "./dom.js";
import { percent, taken } from "./format.js";

const ENDED = new Set(["succeeded", "failed", "cancelled", "partial", "empty"]);

export function hasEnded(status) {
  return ENDED.has(status);
}

/** A status as a word with a symbol, so that it does not depend on colour. */
export function badge(status) {
  return h("span", { class: "badge", "data-status": status }, status);
}

/** A progress bar with its text; `fraction` is null where the total is not known. */
export function bar(label, fraction) {
  const node = h("progress", { max: 1, "aria-label": label, value: fraction ?? undefined });
  if (fraction === null) node.removeAttribute("value");
  return node;
}

/** Progress of a job: the mean over its steps, and the current step. */
export function progressOf(steps) {
  if (!steps?.length) return null;
  const shares = steps.map((step) => (step.status === "succeeded" ? 1 : step.total ? step.done / step.total : 0));
  const fraction = shares.reduce((sum, share) => sum + share, 0) / steps.length;
  return { fraction, step: steps.find((step) => step.status === "running")?.name ?? null };
}

/** A job's progress in a cell. */
export function progressCell(job) {
  if (job.status === "succeeded") return "done";
  const found = progressOf(job.steps ?? (job.progress ? [job.progress] : []));
  if (!found || job.status === "queued") return "–";
  const text = `${percent(found.fraction)}${found.step && job.status === "running" ? ` · ${found.step}` : ""}`;
  return [bar("progress", found.fraction), " ", h("span", { class: "small" }, text)];
}

/** Run time of a job; it ticks while the job runs. */
export function took(job) {
  const counting = job.started_at && !job.finished_at;
  return h("span", { "data-since": counting ? job.started_at : null }, taken(job));
}

setInterval(() => {
  for (const node of document.querySelectorAll("[data-since]")) node.textContent = taken({ started_at: node.dataset.since });
}, 1000);

/** A table that turns into cards on a narrow screen; `rows` are lists of cells, the first of them the row's name. */
export function table(caption, columns, rows, empty) {
  if (!rows.length) return h("p", { class: "empty" }, empty);
  return h(
    "table",
    {},
    h("caption", { class: "unseen" }, caption),
    h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))),
    h(
      "tbody",
      {},
      rows.map((cells) =>
        h(
          "tr",
          {},
          cells.map((cell, index) => h(index ? "td" : "th", { "data-label": columns[index], scope: index ? null : "row" }, cell)),
        ),
      ),
    ),
  );
}

/** A section with its heading. */
export function section(title, ...children) {
  const id = freshId("section");
  return h("section", { "aria-labelledby": id, class: "card" }, h("h2", { id }, title), children);
}

/** Ask for confirmation; returns whether to go on. */
export function confirm(question, detail, verb) {
  return new Promise((resolve) => {
    const title = freshId("confirm");
    const dialog = h("dialog", { class: "dialog", "aria-labelledby": title });
    const close = (answer) => () => {
      dialog.close();
      dialog.remove();
      resolve(answer);
    };
    replace(
      dialog,
      h("h2", { id: title }, question),
      h("p", {}, detail),
      h(
        "div",
        { class: "actions" },
        h("button", { type: "button", autofocus: true, onclick: close(false) }, "Keep it"),
        h("button", { type: "button", class: "danger", onclick: close(true) }, verb),
      ),
    );
    dialog.addEventListener("cancel", close(false));
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Do some work once at a time with inactive buttons; they keep the focus, which `disabled` would remove. */
export async function still(buttons, work) {
  if (buttons.some((one) => one.ariaDisabled === "true")) return;
  for (const one of buttons) one.ariaDisabled = "true";
  try {
    await work();
  } finally {
    for (const one of buttons) one.ariaDisabled = null;
  }
}

/** A button that is inactive during its work, and shows the work's error beside it. */
export function actionButton(text, work, attributes = {}) {
  const problem = h("span", { class: "problem", role: "alert" });
  const button = h("button", {
    type: "button",
    ...attributes,
    onclick: () => still([button], async () => {
      problem.textContent = "";
      try {
        await work();
      } catch (error) {
        problem.textContent = ` ${error.message}`;
      }
    }),
  }, text);
  return h("span", { class: "action" }, button, problem);
}

/** Why a job has failed. */
export function errorPart(error) {
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("p", {}, error.field && h("code", {}, error.field), error.field && ": ", error.message),
    error.remedy && h("p", {}, error.remedy),
  );
}

/** Lines to copy. */
export function copyable(label, text) {
  const button = h("button", {
    type: "button",
    class: "quiet",
    onclick: async () => {
      const done = await copy(text);
      button.textContent = done ? "Copied" : "Select and copy by hand";
      announce(button.textContent);
      setTimeout(() => (button.textContent = "Copy"), 2000);
    },
    "aria-label": `Copy ${label}`,
  }, "Copy");
  return h("div", { class: "code" }, h("pre", { tabindex: "0", "aria-label": label }, h("code", {}, text)), button);
}

async function copy(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Not allowed; try the older way.
    }
  }
  const area = h("textarea", { class: "unseen", value: text, "aria-hidden": "true" });
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

/** An error shown in place of a view. */
export function failure(error) {
  return h("p", { class: "problem", role: "alert" }, error.message);
}

/** Name and value pairs. */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** A collapsible part. */
export function opens(title, ...children) {
  return h("details", {}, h("summary", {}, title), children);
}
