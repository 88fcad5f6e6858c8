/** The form of a request. Values without a field are kept, so nothing is lost between form and text. */

import { h } from "../dom.js";
import { BudgetRows } from "./budgets.js";
import { Field, fieldset, moreFields } from "./fields.js";

const MAIN = {
  Teacher: [
    { pointer: "/teacher/model", label: "Model", hint: "A folder on the server, s3:// or gs://, or a hub id.", required: true },
    { pointer: "/teacher/revision", label: "Revision", hint: "Branch, tag or commit of a hub id." },
  ],
  Corpus: [
    { pointer: "/corpus/paths", label: "Files", hint: "One a line: files, folders or globs of .txt, .jsonl, .json or .parquet on the server, s3:// or gs://.", kind: "lines" },
    { pointer: "/corpus/dataset", label: "Or a dataset", hint: "A saved folder or a hub id, instead of files." },
    { pointer: "/corpus/text_column", label: "Text column", hint: "Left empty: text." },
    { pointer: "/corpus/dataset_config", label: "Configuration", hint: "Of a hub dataset." },
    { pointer: "/corpus/split", label: "Split", hint: "Of a dataset; left empty: train." },
    { pointer: "/corpus/documents", label: "One document of a .txt is", choices: [["", "the file"], ["paragraph", "a paragraph"], ["line", "a line"]] },
  ],
  "Sub-spaces and training": [
    { pointer: "/subspaces/count", label: "Sub-spaces", hint: "How many SuperLMs are trained; left empty: 3.", kind: "number" },
    { pointer: "/subspaces/preset", label: "Their ranges", choices: [["", "relative to the teacher"], ["autodistil-paper", "the paper’s three, for 12 × 768 teachers"]] },
    { pointer: "/training/tokens_per_superlm", label: "Tokens for each SuperLM", hint: "Left empty: 20M.", kind: "number" },
  ],
};

const MORE = [
  { pointer: "/training/sequence_length", label: "Tokens of a block", hint: "Left empty: 128, or the teacher's longest input if that is shorter.", kind: "number" },
  { pointer: "/training/batch_size", label: "Blocks of a step", hint: "Left empty: 32.", kind: "number" },
  { pointer: "/training/learning_rate", label: "Learning rate", hint: "Left empty: 0.001.", kind: "number" },
  { pointer: "/training/dropout", label: "Dropout", hint: "Left empty: 0.1.", kind: "number" },
  { pointer: "/training/workers", label: "Workers", hint: "Data-parallel workers of each training run; left empty: 1.", kind: "number" },
  { pointer: "/corpus/heldout_fraction", label: "Share of documents held out", hint: "Left empty: 0.02.", kind: "number" },
  { pointer: "/search/heldout_blocks", label: "Held-out rows for the search", hint: "Left empty: 128.", kind: "number" },
  { pointer: "/polish/tokens", label: "Polish the chosen for tokens", hint: "Left empty: not at all.", kind: "number" },
  { pointer: "/seed", label: "Seed", kind: "number" },
  { pointer: "/labels", label: "Labels", hint: "One a line, name: value.", kind: "labels" },
];

export class RequestForm {
  /** @param {string} [without] a part whose fields are elsewhere. */
  constructor(targets, without) {
    this.base = {};
    const build = (specs) => specs.map((spec) => new Field(spec));
    const parts = Object.entries(MAIN).filter(([title]) => title !== without).map(([title, specs]) => [title, build(specs)]);
    const training = parts.pop();
    const more = build(MORE);
    this.above = parts.flatMap(([, fields]) => fields);
    this.below = [...training[1], ...more];
    this.fields = [...this.above, ...this.below];
    this.budgets = new BudgetRows(targets);
    this.node = h("div", {}, parts.map((part) => fieldset(...part)), this.budgets.node, fieldset(...training), moreFields(more));
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
    if (made.polish && Object.keys(made.polish).length === 0) delete made.polish;
    this.budgets.put(made);
    return made;
  }

  /** Places where problems can be shown. */
  places() {
    return [...this.above, ...this.budgets.places(), ...this.below];
  }
}
