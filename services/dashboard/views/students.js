/** Students: costs, quality, downloads and how to load them. */

import { path } from "../api.js";
import { download } from "../download.js";
import { h } from "../dom.js";
import { bytes, loss, overBest, overBestText, shape, short, times, trimmed, whole } from "../format.js";
import { link } from "../router.js";
import { actionButton, badge, copyable, facts, opens, table } from "../widgets.js";
import { scoreText } from "./evaluations.js";

/** A table of students, each with details to expand. */
export function studentCards(job, students, teacher, evaluations = []) {
  const over = students.length > 1 ? overBest(students.map((one) => one.over_best)) : [];
  return h(
    "ul",
    { class: "students" },
    students.map((one, index) => student(job, one, { teacher, over: over[index] }, evaluations.filter(({ model }) => model.student === one.id))),
  );
}

function student(job, one, { teacher, over }, evaluations) {
  const beside = (ofTeacher, own) => (ofTeacher ? ` (teacher: ${short(ofTeacher)}, ${times(ofTeacher / own, 2)})` : "");
  const sameLength = teacher?.sequence_length === one.sequence_length;
  return h(
    "li",
    { class: "student", "data-student": one.id },
    h("h3", {}, one.budget, " ", one.status !== "ready" && badge(one.status)),
    facts([
      ["Shape", `${one.subspace}: ${shape(one.architecture)}`],
      ["Held-out loss", over ? `${loss(one.heldout_loss)} (${overBestText(over)})` : loss(one.heldout_loss)],
      ["Parameters", `${short(one.params)}${beside(teacher?.params, one.params)}`],
      ["FLOPs", `${short(one.flops)} at ${one.sequence_length} tokens${beside(sameLength ? teacher?.flops : null, one.flops)}`],
      ["Weights", one.weight_bytes && Object.entries(one.weight_bytes).map(([dtype, size]) => `${bytes(size)} ${dtype}`).join(", ")],
      ["Task score", one.task_score === null ? null : trimmed(one.task_score, 4)],
      ["Polished for", one.polished_tokens ? `${short(one.polished_tokens)} tokens` : null],
      ["Like the teacher", one.fidelity ? fidelity(one.fidelity) : null],
      ["Latency", one.latency ? latency(one.latency) : predicted(one.latency_prediction)],
      ["ONNX", exported(one.exports ?? {})],
      ["Evaluations", evaluations.length ? h("ul", {}, evaluations.map((found) => h("li", {}, evaluationLine(found)))) : null],
    ]),
    one.files && h(
      "div",
      { class: "actions" },
      h("a", { class: "button", href: link("/evaluations/new", { compression: job, student: one.id }), "aria-label": `Evaluate ${one.budget}` }, "Evaluate"),
      actionButton("Download", () => download(`${path("compressions", job, "students", one.id)}/archive`, `${one.id}.tar`), {
        class: "main",
        "aria-label": `Download ${one.budget}`,
      }),
    ),
    one.files && opens(
      "How to load it",
      copyable(`lines that load ${one.budget}`, loadLines(one, teacher)),
      h("p", { class: "small" }, "On the service’s storage it lies in:"),
      copyable(`the folder of ${one.budget}`, one.files),
    ),
  );
}

function evaluationLine(found) {
  return [h("a", { href: `#/evaluations/${encodeURIComponent(found.id)}` }, found.name), ": ", found.result ? scoreText(found.result) : badge(found.status)];
}

function latency(measured) {
  const { target, p50_ms: p50, p95_ms: p95, speed_up: speedUp, device, agrees } = measured;
  return [
    `${trimmed(p50, 3)} ms, 95 % within ${trimmed(p95, 3)} ms; ${times(speedUp)} as fast as the teacher`,
    h("span", { class: "small block" }, `on ${target.name}: ${device}, ${target.threads} ${target.threads === 1 ? "thread" : "threads"}, batch ${target.batch_size}, ${target.sequence_length} tokens, ${target.dtype}, ${target.runtime}${agrees ? "" : "; the repeats disagree"}`),
  ];
}

const FIGURES = {
  agreement: "same label",
  kl: "KL divergence",
  cosine: "cosine of the vectors",
  similarity_spearman: "Spearman of similarities",
  neighbours_at_10: "ten nearest found",
  spearman: "Spearman of the values",
  kendall: "Kendall’s tau within lists",
};

/** Figures of fidelity with their intervals, and those of each label to expand. */
function fidelity({ rows, interval, per_class: perClass, ...figures }) {
  const lines = Object.entries(FIGURES).filter(([name]) => typeof figures[name] === "number").map(([name, words]) => {
    const ends = interval?.[name];
    return h("li", {}, `${words} ${trimmed(figures[name], 4)}`, ends && h("span", { class: "small" }, ` (${trimmed(ends[0], 4)} to ${trimmed(ends[1], 4)})`));
  });
  return [
    h("ul", {}, lines),
    h("span", { class: "small block" }, `on ${whole(rows)} held-out rows, with 95 % intervals`),
    perClass && opens(
      "By label of the teacher",
      table(
        "Agreement by label",
        ["Label", "Count", "Same label"],
        Object.entries(perClass).map(([name, { count, agreement }]) => [name, whole(count), agreement === null ? "–" : trimmed(agreement, 4)]),
        "No labels.",
      ),
    ),
  ];
}

function predicted(prediction) {
  if (!prediction) return null;
  const times = Object.entries(prediction).filter(([, value]) => typeof value === "number");
  return times.length ? `predicted: ${times.map(([name, value]) => `${name.replaceAll("_", " ")} ${trimmed(value, 3)}`).join(", ")}` : null;
}

function int8Quality({ pooled_cosine: cosine, head_error: error }) {
  return cosine === null ? `relative error ${trimmed(error, 4)}` : `cosine ${trimmed(cosine, 4)}`;
}

function exported({ onnx, int8, int8_report: report } = {}) {
  if (!onnx) return null;
  const small = int8 && (report ? `${int8}: ${bytes(report.float32_bytes)} become ${bytes(report.int8_bytes)}, ${int8Quality(report)}` : int8);
  return small ? `${onnx}; ${small}` : onnx;
}

/** Whether stock classes of transformers can express a shape: equal layers, attention as wide as the hidden size. */
function isStock({ hidden_size: hidden, heads, head_width: width, intermediate_size: ffn }) {
  return ![heads, width, ffn].some(Array.isArray) && heads * width === hidden;
}

/** Lines that load students of the kinds with a head. */
const LINES = {
  classification: (folder, trust) => ["from transformers import pipeline", "", `classify = pipeline("text-classification", ${folder}${trust})`],
  "token-classification": (folder, trust) => ["from transformers import pipeline", "", `classify = pipeline("token-classification", ${folder}${trust})`],
  pairs: (folder, trust) => ["from sentence_transformers import CrossEncoder", "", `model = CrossEncoder(${folder}${trust})`],
  embedding: (folder, trust) => ["from sentence_transformers import SentenceTransformer", "", `model = SentenceTransformer(${folder}${trust})`],
};

function loadLines(one, teacher) {
  const folder = JSON.stringify(one.id);
  const stock = isStock(one.architecture);
  const trust = stock ? "" : ", trust_remote_code=True";
  const bare = stock && teacher?.shape?.pooler === false ? ", add_pooling_layer=False" : "";
  const lines = LINES[teacher?.shape?.head?.pairs ? "pairs" : teacher?.kind];
  if (lines) return [`# in a terminal: tar -xf ${one.id}.tar`, ...lines(folder, trust)].join("\n");
  return [
    `# in a terminal: tar -xf ${one.id}.tar`,
    "from transformers import AutoModel, AutoTokenizer",
    "",
    `model = AutoModel.from_pretrained(${folder}${trust}${bare})`,
    `tokenizer = AutoTokenizer.from_pretrained(${folder}${trust})`,
  ].join("\n");
}

const LIMITS = { max_params: "parameters", max_params_without_embeddings: "parameters without embeddings", max_flops: "FLOPs", max_weight_bytes: "weights", max_activation_bytes: "activations", max_latency_ms: "latency", min_agreement: "same label", min_cosine: "cosine", min_neighbours: "ten nearest", min_spearman: "Spearman" };

/** Budgets that no candidate meets, with the nearest candidate. */
export function infeasibleTable(infeasible) {
  return table(
    "Budgets that nothing meets",
    ["Budget", "Nearest", "Parameters", "Loss", "Misses"],
    infeasible.flatMap(({ budget, nearest }) =>
      nearest.length
        ? nearest.map((one) => [
          budget,
          `${one.subspace}: ${shape(one.architecture)}`,
          short(one.params),
          loss(one.heldout_loss),
          Object.entries(one.misses).map(([name, ratio]) => `${LIMITS[name] ?? name} ${name.startsWith("min_") ? `${trimmed(ratio - 1, 3)} too low` : times(ratio)}`).join(", "),
        ])
        : [[budget, "nothing", "–", "–", "–"]],
    ),
    "Every budget is met.",
  );
}
