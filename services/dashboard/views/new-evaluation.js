/** A new evaluation: a student, or another model, fine-tuned and scored on a labelled task. */

import { h } from "../dom.js";
import { Field, fieldset, moreFields } from "../form/fields.js";
import { sendingForm } from "../form/sending.js";
import { go } from "../router.js";

const TEACHER = [
  { pointer: "/model/teacher/model", label: "Model", hint: "A folder on the server, s3:// or gs://, or a hub id.", required: true },
  { pointer: "/model/teacher/revision", label: "Revision", hint: "Branch, tag or commit of a hub id." },
];

const TASK = [
  { pointer: "/task/name", label: "Name", hint: "What to call the task." },
  { pointer: "/task/kind", label: "Kind", choices: [["single", "a class of one text"], ["pair", "a class of two texts"], ["similarity", "a value of two texts"]] },
  { pointer: "/task/train", label: "Files to train on", hint: "One a line: .csv, .jsonl or .parquet with labels.", kind: "lines", required: true },
  { pointer: "/task/test", label: "Files to score on", hint: "One a line; nothing is chosen on them.", kind: "lines", required: true },
  { pointer: "/task/text_columns", label: "Text columns", hint: "One a line: one, or two for pairs.", kind: "lines", required: true },
  { pointer: "/task/label_column", label: "Label column", hint: "Left empty: label." },
  { pointer: "/task/metric", label: "Metric", choices: [["accuracy", "accuracy"], ["f1", "F1"], ["matthews", "Matthews correlation"], ["spearman", "Spearman, for similarity"]] },
  { pointer: "/seeds", label: "Seeds", hint: "Each fine-tunes anew; left empty: 0, 1, 2.", kind: "numbers" },
];

const MORE = [
  { pointer: "/epochs", label: "Epochs", hint: "Left empty: 3.", kind: "number" },
  { pointer: "/learning_rates", label: "Learning rates", hint: "Each is tried; left empty: 0.0001 and 0.0005.", kind: "numbers" },
  { pointer: "/batch_size", label: "Rows of a step", hint: "Left empty: 32.", kind: "number" },
  { pointer: "/sequence_length", label: "Tokens of a text", hint: "Left empty: 128, or the model's longest input if that is shorter.", kind: "number" },
  { pointer: "/keep_model", label: "Keep the models", kind: "flag", choices: [["", "scores only"], ["true", "one of each seed, to load or to compress"]] },
  { pointer: "/task/max_train_rows", label: "Most rows to train on", kind: "number" },
];

export function newEvaluationView(_found, query) {
  const compression = query.get("compression");
  const student = query.get("student");
  const build = (specs) => specs.map((spec) => new Field(spec));
  const [teacher, task, more] = [build(compression ? [] : TEACHER), build(TASK), build(MORE)];
  const fields = [...teacher, ...task, ...more];
  const first = { model: compression ? { compression, student } : {}, task: { kind: "single", metric: "accuracy", text_columns: ["text"] } };
  for (const field of fields) field.show(first);
  const node = sendingForm({
    parts: [
      compression
        ? h("p", {}, "The student ", h("b", {}, student), " of ", h("a", { href: `#/compressions/${encodeURIComponent(compression)}` }, compression))
        : fieldset("Model", teacher),
      fieldset("Task", task),
      moreFields(more),
    ],
    places: () => fields,
    verb: "Evaluate",
    place: "/v1/evaluations",
    body: () => {
      const made = structuredClone(first);
      for (const field of fields) field.put(made);
      return made;
    },
    done: (made) => go(`/evaluations/${encodeURIComponent(made.id)}`),
  });
  return { title: "New evaluation", node };
}
