/** A new batch: several teachers and their common settings. */

import { getIfThere } from "../api.js";
import { h, replace } from "../dom.js";
import { Field, fieldset } from "../form/fields.js";
import { RequestForm } from "../form/request-form.js";
import { sendingForm } from "../form/sending.js";
import { poll } from "../poll.js";
import { go } from "../router.js";

const COMMON = "/common";
const OWN = [
  { pointer: "/name", label: "Name", hint: "Free text to find it by." },
  { pointer: "/compressions", label: "Teachers", hint: "One a line: folders on the server, s3:// or gs://, or hub ids.", kind: "lines", required: true },
  { pointer: "/max_running", label: "At the same time", hint: "How many compressions run at once; left empty: as the service lets.", kind: "number" },
];

export function newBatchView(_found, _query, signal) {
  const place = h("div", {}, h("p", { class: "empty" }, "Loading …"));
  poll(async () => {
    const known = await getIfThere("/v1/latency-targets", signal);
    replace(place, batchForm(known?.latency_targets ?? []));
  }, signal, place);
  return { title: "New batch", node: place };
}

function batchForm(targets) {
  const own = OWN.map((spec) => new Field(spec));
  const common = new RequestForm(targets, "Teacher");
  common.show({});
  return sendingForm({
    parts: [fieldset("Batch", own), common.node],
    places: () => [...own, ...common.places().map((one) => ({ pointer: COMMON + one.pointer, label: one.label, fault: (text) => one.fault(text), focus: () => one.focus() }))],
    verb: "Submit the batch",
    place: "/v1/batches",
    body: () => {
      const made = {};
      for (const field of own) field.put(made);
      const { teacher: _, ...request } = common.request();
      return { ...made, common: request, compressions: (made.compressions ?? []).map((model) => ({ teacher: { model } })) };
    },
    done: (made) => go(`/batches/${encodeURIComponent(made.id)}`),
  });
}
