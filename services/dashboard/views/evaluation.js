/** One evaluation: the progress of its seeds and their scores. */

import { actions } from "../actions.js";
import { get, path } from "../api.js";
import { download } from "../download.js";
import { announce, h, replace, whenChanged } from "../dom.js";
import { trimmed, when, whole } from "../format.js";
import { poll } from "../poll.js";
import { actionButton, badge, copyable, errorPart, facts, hasEnded, opens, section, table, took } from "../widgets.js";
import { modelLink, scoreText } from "./evaluations.js";
import { logPart } from "./log.js";
import { Steps } from "./steps.js";

export function evaluationView({ id }, _query, signal) {
  const place = h("div", {}, h("p", { class: "empty" }, "Loading …"));
  const steps = new Steps();
  const results = h("div");
  const draw = whenChanged((one) => {
    replace(place, head(one, wake));
    replace(results, one.result && scores(one.result), one.result && models(one), opens("The request", copyable("the request as JSON", JSON.stringify(one.request, null, 2))));
  });
  let status = null;
  let busy = null;
  const look = async () => {
    const one = await get(path("evaluations", id), signal);
    if (status && status !== one.status) announce(`${id} is ${one.status}.`);
    status = one.status;
    draw({ ...one, steps: undefined });
    steps.show(one.steps, hasEnded(status));
    return hasEnded(status) ? 0 : 1000;
  };
  function wake() {
    busy ??= poll(look, signal, place, draw).finally(() => {
      busy = null;
    });
  }
  wake();
  return { title: id, node: h("div", {}, place, steps.node, results, logPart("evaluations", id, signal)) };
}

function head(one, wake) {
  return h(
    "section",
    { class: "card head", "aria-label": "State" },
    h("p", { class: "state" }, badge(one.status), one.attempt > 1 && h("span", { class: "small" }, `attempt ${one.attempt}`)),
    one.reason && h("p", { class: "reason" }, h("b", {}, "Why: "), one.reason),
    one.error && errorPart(one.error),
    facts([
      ["Task", one.name],
      ["Model", modelLink(one.model)],
      ["Submitted", when(one.created_at)],
      [one.finished_at ? "Took" : "So far", one.started_at ? took(one) : null],
    ]),
    actions({
      noun: "evaluation",
      one,
      list: "evaluations",
      wake,
      losses: {
        cancel: "Seeds that have ended are kept: it can be resumed later.",
        delete: "Its record goes; the scores and models of its seeds stay until they are pruned, for the same evaluation asked for again.",
      },
    }),
  );
}

function models(one) {
  const kept = one.result.seeds.filter(({ files }) => files);
  if (!kept.length) return null;
  return section(
    "Fine-tuned models",
    table(
      "Models of the seeds",
      ["Seed", "Folder on the service’s storage", ""],
      kept.map(({ seed, files }) => [
        seed,
        copyable(`the folder of seed ${seed}`, files),
        actionButton("Download", () => download(`${path("evaluations", one.id, "models", `${one.id}-seed-${seed}`)}/archive`, `${one.id}-seed-${seed}.tar`), {
          "aria-label": `Download the model of seed ${seed}`,
        }),
      ]),
      "",
    ),
  );
}

function scores(result) {
  const { metric, average, baseline, scored_on: side, rows } = result;
  return section(
    "Scores",
    facts([
      ["Over the seeds", scoreText(result)],
      ["Always the same answer", `${metric} ${trimmed(baseline.score, 4)}`],
      ["Scored on", `${whole(rows)} rows of ${side}${average ? `, F1 ${average}` : ""}`],
      ["Trained on", `${whole(result.train_rows)} rows; ${whole(result.set_aside_rows)} set aside to choose on`],
      ["Texts in both", result.rows_in_training ? whole(result.rows_in_training) : null],
    ]),
    table(
      "Scores of the seeds",
      ["Seed", metric, "All metrics", "On rows set aside", "Epoch", "Learning rate", "Device"],
      result.seeds.map((one) => [
        one.seed,
        trimmed(one.score, 4),
        Object.entries(one.scores).map(([name, value]) => `${name} ${trimmed(value, 4)}`).join(", "),
        trimmed(one.validation_score, 4),
        one.epoch,
        one.learning_rate,
        one.device,
      ]),
      "No seed has ended.",
    ),
  );
}
