/** The rows of budgets: each has a name and limits, all of which must hold. */

import { announce, freshId, h } from "../dom.js";
import { Field, moreFields } from "./fields.js";
import { setAt, valueAt } from "./pointers.js";

export class BudgetRows {
  constructor(targets) {
    this.rows = [];
    this.targets = freshId("targets");
    this.list = h("div", { class: "budgets" });
    this.node = h(
      "fieldset",
      {},
      h("legend", {}, "Budgets"),
      h("p", { class: "hint" }, "Each budget gives a student. All limits and floors of a budget hold at once; fill in at least one. 8M stands for 8,000,000."),
      this.list,
      h("datalist", { id: this.targets }, targets.map((one) => h("option", { value: one.name }))),
      h("button", { type: "button", onclick: () => this.addByHand() }, "Add a budget"),
    );
  }

  show(request) {
    const budgets = valueAt(request, "/budgets");
    this.rows = [];
    this.list.replaceChildren();
    for (const budget of Array.isArray(budgets) && budgets.length ? budgets : [{ name: "small" }]) this.add(budget);
  }

  put(request) {
    const budgets = this.rows.map((row, index) => {
      const budget = { ...row.base };
      const around = { budgets: { [index]: budget } };
      for (const field of row.fields) field.put(around);
      return budget;
    });
    setAt(request, "/budgets", budgets);
  }

  addByHand() {
    const row = this.add({ name: `budget-${this.rows.length + 1}` });
    row.fields[0].input.focus();
  }

  add(budget) {
    const row = { base: Object.fromEntries(Object.entries(budget).filter(([, value]) => value !== null)) };
    row.problem = h("p", { class: "problem", id: freshId("row"), hidden: true });
    row.list = h("div", { class: "fields" });
    row.others = h("div");
    row.node = h("fieldset", { class: "budget", "aria-describedby": row.problem.id }, row.list, row.others, row.problem);
    this.rows.push(row);
    this.fill(row, this.rows.length - 1);
    this.list.append(row.node);
    return row;
  }

  /** Build a row's fields; their pointers contain its index. */
  fill(row, index) {
    const at = (name) => `/budgets/${index}/${name}`;
    row.pointer = `/budgets/${index}`;
    const main = [
      new Field({ pointer: at("name"), label: "Name" }),
      new Field({ pointer: at("max_params"), label: "Most parameters", kind: "number" }),
      new Field({ pointer: at("max_flops"), label: "Most FLOPs", kind: "number" }),
      new Field({ pointer: at("sequence_length"), label: "… at tokens", kind: "number" }),
      new Field({ pointer: at("max_latency_ms"), label: "Most latency in ms", kind: "number" }),
      new Field({ pointer: at("latency_target"), label: "… measured on", list: this.targets }),
    ];
    const more = [
      new Field({ pointer: at("min_agreement"), label: "Least share with the teacher’s label", kind: "number" }),
      new Field({ pointer: at("min_cosine"), label: "Least cosine to the teacher’s vectors", kind: "number" }),
      new Field({ pointer: at("min_neighbours"), label: "Least share of the ten nearest", kind: "number" }),
      new Field({ pointer: at("min_spearman"), label: "Least Spearman correlation", kind: "number" }),
      new Field({ pointer: at("minimise"), label: "Minimise", choices: [["", "the held-out loss"], ["latency", "latency"], ["flops", "FLOPs"], ["params", "parameters"]] }),
      new Field({ pointer: at("latency_percentile"), label: "… at percentile", choices: [["", "p50"], ["p95", "p95"]] }),
      new Field({ pointer: at("max_params_without_embeddings"), label: "Parameters without embeddings", kind: "number" }),
      new Field({ pointer: at("max_weight_bytes"), label: "Bytes of weights", kind: "number" }),
      new Field({ pointer: at("max_activation_bytes"), label: "Bytes of activations", kind: "number" }),
      new Field({ pointer: at("weight_dtype"), label: "… in", choices: [["", "float32"], ["bfloat16", "bfloat16"], ["float16", "float16"]] }),
    ];
    row.fields = [...main, ...more];
    for (const field of row.fields) field.show({ budgets: { [index]: row.base } });
    const away = h("button", { type: "button", class: "quiet", "aria-label": `Remove budget ${index + 1}`, onclick: () => this.remove(row) }, "Remove");
    const others = moreFields(more, "More limits, and floors of fidelity");
    others.open = more.some((field) => field.input.value);
    row.list.replaceChildren(h("legend", { class: "unseen" }, `Budget ${index + 1}`), ...main.map((field) => field.node), away);
    row.others.replaceChildren(others);
  }

  remove(row) {
    const kept = {};
    this.put(kept);
    kept.budgets.splice(this.rows.indexOf(row), 1);
    this.show(kept);
    announce("The budget is removed.");
    this.rows.at(-1).fields[0].input.focus();
  }

  /** Places where problems can be shown: every field, and each row as a whole. */
  places() {
    return this.rows.flatMap((row) => [
      ...row.fields,
      {
        pointer: row.pointer,
        fault: (text) => {
          row.problem.hidden = text === null;
          row.problem.textContent = text ?? "";
        },
        focus: () => row.fields[1].focus(),
      },
    ]);
  }
}
