/** The form of a request. Values without a field are kept, so nothing is lost between form and text. */

import { h } from "../dom.js";
import { BudgetRows } from "./budgets.js";
import { Field, fieldset, moreFields } from "./fields.js";
import { setAt, valueAt } from "./pointers.js";
import { MAIN, MORE } from "./request-fields.js";

const OPTIONAL = ["/objective/output", "/proxy_task", "/polish"]; // parts that are there or not: left out when emptied

function isEmpty(value) {
  return typeof value === "object" && value !== null && Object.keys(value).length === 0;
}

export class RequestForm {
  /** @param {string} [without] a part whose fields are elsewhere. */
  constructor(targets, without) {
    this.base = {};
    const build = (specs) => specs.map((spec) => new Field(spec));
    const parts = Object.entries(MAIN).filter(([title]) => title !== without).map(([title, specs]) => [title, build(specs)]);
    const training = parts.pop();
    const more = Object.entries(MORE).map(([title, specs]) => [title, build(specs)]);
    this.above = parts.flatMap(([, fields]) => fields);
    this.below = [...training[1], ...more.flatMap(([, fields]) => fields)];
    this.fields = [...this.above, ...this.below];
    this.budgets = new BudgetRows(targets);
    this.node = h("div", {}, parts.map((part) => fieldset(...part)), this.budgets.node, fieldset(...training), more.map(([title, fields]) => moreFields(fields, title)));
  }

  show(request) {
    this.base = request;
    for (const field of this.fields) field.show(request);
    this.budgets.show(request);
  }

  /** The request with the form's values. */
  request() {
    const made = structuredClone(this.base);
    made.teacher ??= {};
    made.corpus ??= {};
    for (const field of this.fields) field.put(made);
    for (const part of OPTIONAL) if (isEmpty(valueAt(made, part))) setAt(made, part, undefined);
    this.budgets.put(made);
    return made;
  }

  /** Places where problems can be shown. */
  places() {
    return [...this.above, ...this.budgets.places(), ...this.below];
  }
}
