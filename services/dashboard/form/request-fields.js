/** The fields of a request by group: where each stands in the request, its label and its hint. Budgets have rows of their own. */

export const MAIN = {
  Teacher: [
    { pointer: "/teacher/model", label: "Model", hint: "A folder on the server, s3:// or gs://, or a hub id.", required: true },
    { pointer: "/teacher/revision", label: "Revision", hint: "Branch, tag or commit of a hub id." },
    { pointer: "/teacher/kind", label: "Kind", choices: [["", "as its folder says"], ["encoder", "an encoder, without its head"], ["embedding", "an embedding model"], ["classification", "a classifier or reranker"], ["token-classification", "a token classifier"]] },
    { pointer: "/teacher/embedding_size", label: "Dimensions of students’ vectors", hint: "Of an embedding model; left empty: the teacher’s, in its space.", kind: "number" },
  ],
  Corpus: [
    { pointer: "/corpus/paths", label: "Files", hint: "One a line: files, folders or globs of .txt, .jsonl, .json or .parquet on the server, s3:// or gs://.", kind: "lines" },
    { pointer: "/corpus/dataset", label: "Or a dataset", hint: "A saved folder or a hub id, instead of files." },
    { pointer: "/corpus/text_column", label: "Text column", hint: "Left empty: text." },
    { pointer: "/corpus/text_columns", label: "Or the columns of a pair", hint: "One a line: two columns that the teacher reads together.", kind: "lines" },
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

const YES_NO = [["", "the default"], ["true", "yes"], ["false", "no"]];

/** Groups of rarely used fields, closed at first. */
export const MORE = {
  Objective: [
    { pointer: "/objective/relation", label: "Relation loss", choices: [["", "the default: kl"], ["kl", "kl"], ["softmax-mse", "softmax-mse"], ["raw-mse", "raw-mse"], ["null", "none"]], kind: "nullable" },
    { pointer: "/objective/relation_heads", label: "Relation heads", hint: "Left empty: the teacher’s heads.", kind: "number" },
    { pointer: "/objective/remainder", label: "Widths that relation heads do not divide", choices: [["", "the default: spread"], ["spread", "uneven heads"], ["drop", "drop the rest"]] },
    { pointer: "/objective/relation_weights", label: "Weights of the relations", hint: "Of queries, keys and values; left empty: 1, 1, 1.", kind: "numbers" },
    { pointer: "/objective/output/kind", label: "Output term", choices: [["", "none"], ["pooled", "mean-pooled"], ["token", "every token’s"]] },
    { pointer: "/objective/output/weight", label: "Weight of the output term", hint: "Left empty: 1.", kind: "number" },
    { pointer: "/objective/logits/weight", label: "Weight of a classifier’s logits", hint: "Left empty: 1.", kind: "number" },
    { pointer: "/objective/logits/temperature", label: "Temperature of the logits", hint: "Left empty: 1.", kind: "number" },
    { pointer: "/objective/embedding/weight", label: "Weight of the distance of vectors", hint: "Of an embedding model; left empty: 1.", kind: "number" },
    { pointer: "/objective/embedding/similarity_weight", label: "Weight of the similarities between texts", hint: "Left empty: 1.", kind: "number" },
    { pointer: "/objective/embedding/similarity_rows", label: "Texts that are compared with one another", hint: "Left empty: 32.", kind: "number" },
    { pointer: "/objective/embedding/similarity_temperature", label: "Temperature of the similarities", hint: "Left empty: 0.05.", kind: "number" },
  ],
  "More of the training": [
    { pointer: "/subspaces/spaces", label: "Ranges of one’s own", hint: "A JSON list of objects with name, layers, hidden_sizes, mlp_ratios and, if wanted, heads.", kind: "json" },
    { pointer: "/subspaces/importance", label: "Order weights by importance", choices: YES_NO, kind: "flag" },
    { pointer: "/subspaces/layer_rule", label: "Teacher layers to start from", choices: [["", "the default: evenly, to the last"], ["to-last", "evenly, to the last"], ["floor", "as in the paper’s code"]] },
    { pointer: "/training/sequence_length", label: "Tokens of a block", hint: "Left empty: 128, or the teacher’s longest input if that is shorter.", kind: "number" },
    { pointer: "/training/batch_size", label: "Blocks of a step", hint: "Left empty: 32.", kind: "number" },
    { pointer: "/training/micro_batch_rows", label: "Blocks at once on a worker", hint: "Left empty: its share of a step, or what memory holds.", kind: "number" },
    { pointer: "/training/learning_rate", label: "Learning rate", hint: "Left empty: 0.001.", kind: "number" },
    { pointer: "/training/schedule", label: "Learning rate over time", choices: [["", "the default: linear"], ["linear", "linear"], ["cosine", "cosine"], ["constant", "constant"]] },
    { pointer: "/training/warmup_fraction", label: "Share of steps to warm up", hint: "Left empty: 0.05.", kind: "number" },
    { pointer: "/training/weight_decay", label: "Weight decay", hint: "Left empty: 0.01.", kind: "number" },
    { pointer: "/training/clip_norm", label: "Largest gradient norm", hint: "Left empty: 1.", kind: "number" },
    { pointer: "/training/dropout", label: "Dropout", hint: "Left empty: 0.1.", kind: "number" },
    { pointer: "/training/random_subnets", label: "Random subnets of a step", hint: "Beside the smallest and the largest; left empty: 2.", kind: "number" },
    { pointer: "/training/smallest_every", label: "Steps between trainings of the smallest subnet", hint: "In the others a further random subnet takes its place; left empty: 4.", kind: "number" },
    { pointer: "/training/workers", label: "Workers", hint: "Data-parallel workers of each training run; left empty: 1.", kind: "number" },
    { pointer: "/training/placement", label: "SuperLMs in training runs", choices: [["", "the default: auto"], ["auto", "auto"], ["together", "together"], ["apart", "apart"]] },
    { pointer: "/training/precision", label: "Precision", choices: [["", "the default: auto"], ["auto", "auto"], ["float32", "float32"], ["bfloat16", "bfloat16"]] },
    { pointer: "/training/checkpoint_every_steps", label: "Steps between checkpoints", hint: "Left empty: 200.", kind: "number" },
    { pointer: "/training/max_failures", label: "Restarts after a worker’s death", hint: "Left empty: 2.", kind: "number" },
  ],
  Search: [
    { pointer: "/corpus/heldout_fraction", label: "Share of documents held out", hint: "Left empty: 0.02.", kind: "number" },
    { pointer: "/search/heldout_blocks", label: "Held-out rows for the search", hint: "Left empty: 128.", kind: "number" },
    { pointer: "/search/searcher", label: "Candidates are", choices: [["", "the default: all"], ["exhaustive", "all"], ["random", "a random sample"], ["evolutionary", "evolved"]] },
    { pointer: "/search/candidates", label: "Number of candidates", hint: "Of a random sample, or evolved.", kind: "number" },
    { pointer: "/search/aim", label: "Aim", hint: "What lets a candidate go early.", choices: [["", "the default: frontier"], ["frontier", "frontier"], ["budgets", "budgets"], ["all", "all stay"]] },
    { pointer: "/search/first_rung_blocks", label: "Rows of the first rung", hint: "Left empty: 16.", kind: "number" },
    { pointer: "/search/growth", label: "Growth of the rungs", hint: "Left empty: 2 times.", kind: "number" },
    { pointer: "/search/population", label: "Candidates of a generation", hint: "Left empty: 24.", kind: "number" },
    { pointer: "/search/mutation", label: "Chance of a mutation", hint: "Left empty: 0.3.", kind: "number" },
  ],
  "Proxy task": [
    { pointer: "/proxy_task/train", label: "Rows to fine-tune on", hint: "One a line: .csv, .jsonl or .parquet with labels.", kind: "lines" },
    { pointer: "/proxy_task/validation", label: "Rows to score on", hint: "The same.", kind: "lines" },
    { pointer: "/proxy_task/text_columns", label: "Text columns", hint: "One a line: one, or two for pairs.", kind: "lines" },
    { pointer: "/proxy_task/label_column", label: "Column of the answer", hint: "Left empty: label." },
    { pointer: "/proxy_task/metric", label: "Metric", choices: [["", "the default: accuracy"], ["accuracy", "accuracy"], ["f1", "F1"], ["matthews", "Matthews correlation"], ["spearman", "Spearman, for similarity"]] },
    { pointer: "/proxy_task/candidates", label: "Candidates to fine-tune", hint: "Of each budget; left empty: 8.", kind: "number" },
    { pointer: "/proxy_task/epochs", label: "Epochs", hint: "Left empty: 3.", kind: "number" },
    { pointer: "/proxy_task/batch_size", label: "Rows of a step", hint: "Left empty: 32.", kind: "number" },
    { pointer: "/proxy_task/learning_rate", label: "Learning rate of the task", hint: "Left empty: 0.0005.", kind: "number" },
    { pointer: "/proxy_task/sequence_length", label: "Tokens of a text", hint: "Left empty: 128, or the teacher’s longest input if that is shorter.", kind: "number" },
    { pointer: "/proxy_task/max_train_rows", label: "Most rows to fine-tune on", kind: "number" },
  ],
  "Polish and export": [
    { pointer: "/polish/tokens", label: "Polish the chosen for tokens", hint: "Left empty: not at all.", kind: "number" },
    { pointer: "/polish/top_k", label: "Students to polish for each budget", hint: "Left empty: 1.", kind: "number" },
    { pointer: "/polish/learning_rate", label: "Learning rate of the polish", hint: "Left empty: that of the training.", kind: "number" },
    { pointer: "/fidelity_rows", label: "Rows to compare with the teacher on", hint: "For teachers with labels, numbers or vectors; left empty: 2,000.", kind: "number" },
    { pointer: "/export/onnx", label: "ONNX", choices: YES_NO, kind: "flag" },
    { pointer: "/export/int8", label: "ONNX in int8", choices: YES_NO, kind: "flag" },
  ],
  Other: [
    { pointer: "/method", label: "Method", hint: "Left empty: autodistil." },
    { pointer: "/seed", label: "Seed", hint: "Left empty: 0.", kind: "number" },
    { pointer: "/labels", label: "Labels", hint: "One a line, name: value.", kind: "labels" },
    { pointer: "/latency_targets", label: "Places to measure latency", hint: "A JSON list of objects with a name and, as wanted, device, threads, batch_size, sequence_length, dtype, runtime.", kind: "json" },
  ],
};

/** The form's label of a request's field, such as `corpus.paths`; the field itself where the form has none. */
export function labelOf(field) {
  const pointer = `/${field.replaceAll(".", "/")}`;
  const known = [...Object.values(MAIN), ...Object.values(MORE)].flat().find((one) => one.pointer === pointer);
  return known ? `“${known.label}”` : field;
}
