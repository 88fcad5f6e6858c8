/** The fields of the form: how each shows and reads its value. */

import { freshId, h } from "../dom.js";
import { setAt, valueAt } from "./pointers.js";

const SUFFIX = { k: 1e3, m: 1e6, g: 1e9, b: 1e9 };

/** Parse "8M", "8,000,000" or "1e-3" as a number; other text stays text, which the service reports. */
export function parseNumber(text) {
  const match = text.replace(/[,_\s]/g, "").match(/^([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)([kmgb]?)$/i);
  if (!match) return text;
  const value = Number(match[1]) * (SUFFIX[match[2].toLowerCase()] ?? 1);
  return Number(value.toPrecision(15));
}

/** Parse JSON; other text stays text, which the service reports. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

const BY_HAND = "set by hand; see it as JSON";

const KINDS = {
  text: { read: (text) => text.trim() || undefined, write: (value) => (typeof value === "string" ? value : undefined) },
  number: {
    read: (text) => (text.trim() ? parseNumber(text) : undefined),
    write: (value) => (typeof value === "number" ? String(value) : typeof value === "string" ? value : undefined),
  },
  lines: {
    read: (text) => {
      const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
      return lines.length ? lines : undefined;
    },
    write: (value) => (Array.isArray(value) ? value.join("\n") : undefined),
  },
  numbers: {
    read: (text) => (text.trim() ? text.trim().split(/[\s,;]+/).map(parseNumber) : undefined),
    write: (value) => (Array.isArray(value) ? value.join(", ") : undefined),
  },
  flag: {
    read: (text) => (text ? text === "true" : undefined),
    write: (value) => (typeof value === "boolean" ? String(value) : undefined),
  },
  nullable: {
    read: (text) => (text === "null" ? null : text || undefined),
    write: (value) => (value === null ? "null" : typeof value === "string" ? value : undefined),
  },
  json: {
    read: (text) => (text.trim() ? parsed(text) : undefined),
    write: (value) => (value && typeof value === "object" ? JSON.stringify(value) : undefined),
  },
  labels: {
    read: (text) => {
      const pairs = text.split("\n").map((line) => line.trim()).filter(Boolean).map((line) => line.split(/\s*[:=]\s*(.*)/s));
      return pairs.length ? Object.fromEntries(pairs.map(([name, value]) => [name, value ?? ""])) : undefined;
    },
    write: (value) => (value && typeof value === "object" ? Object.entries(value).map(([name, one]) => `${name}: ${one}`).join("\n") : undefined),
  },
};

/** A group of fields. */
export function fieldset(title, fields) {
  return h("fieldset", {}, h("legend", {}, title), h("div", { class: "fields" }, fields.map((field) => field.node)));
}

/** A collapsed group of rarely used fields. */
export function moreFields(fields, title = "More") {
  return h("details", {}, h("summary", {}, title), h("div", { class: "fields" }, fields.map((field) => field.node)));
}

/** A field with its label, its hint and a place for its problem. */
export class Field {
  constructor({ pointer, label, hint, kind = "text", choices, required = false, list }) {
    this.pointer = pointer;
    this.label = label;
    this.kind = KINDS[kind];
    this.choices = choices;
    this.id = freshId("field");
    const many = ["lines", "labels", "json"].includes(kind);
    const about = { id: this.id, "aria-describedby": hint ? `${this.id}-hint ${this.id}-problem` : `${this.id}-problem`, "aria-required": required ? "true" : null };
    this.input = choices
      ? h("select", about, choices.map(([value, text]) => h("option", { value }, text)))
      : h(many ? "textarea" : "input", {
        ...about, rows: many ? 2 : null, spellcheck: "false", autocomplete: "off", inputmode: kind === "number" ? "decimal" : null, list,
      });
    this.problem = h("p", { id: `${this.id}-problem`, class: "problem", hidden: true });
    this.node = h(
      "div",
      { class: "field" },
      h("label", { for: this.id }, label, required && h("span", { class: "small" }, " (needed)")),
      this.input,
      hint && h("p", { class: "hint", id: `${this.id}-hint` }, hint),
      this.problem,
    );
  }

  /** Show the value of a request. */
  show(request) {
    const value = valueAt(request, this.pointer);
    const text = this.kind.write(value);
    // Values that this field cannot show, such as training lengths by sub-space, stay unless something is typed.
    this.input.value = text ?? "";
    const shown = text !== undefined && (!this.input.options || this.input.value === text);
    this.other = value !== undefined && value !== null && !shown;
    if (this.input.options) {
      if (this.other) this.input.value = "";
      this.input.options[0].textContent = this.other ? BY_HAND : this.choices[0][1];
    } else if (this.other) this.input.placeholder = BY_HAND;
  }

  /** Write the typed value into a request. */
  put(request) {
    const value = this.kind.read(this.input.value);
    if (value === undefined && this.other) return;
    setAt(request, this.pointer, value);
  }

  /** Show a problem; null removes it. */
  fault(text) {
    this.problem.hidden = text === null;
    this.problem.textContent = text ?? "";
    if (text === null) this.input.removeAttribute("aria-invalid");
    else this.input.setAttribute("aria-invalid", "true");
  }

  focus() {
    for (let part = this.input.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
    this.input.focus();
  }
}
