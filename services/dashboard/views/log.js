/** The driver log of a job's latest attempt: loaded when the part is opened, and again on request. */

import { getBlob, path } from "../api.js";
import { h, replace } from "../dom.js";
import { actionButton, failure } from "../widgets.js";

export function logPart(list, id, signal) {
  const place = h("div");
  const load = async () => {
    try {
      const text = await (await getBlob(path(list, id, "log"), signal)).text();
      replace(place, text ? h("div", { class: "code" }, h("pre", { tabindex: "0", "aria-label": "the run's log" }, text)) : h("p", { class: "empty" }, "The run has written nothing yet."));
    } catch (error) {
      if (!signal.aborted) replace(place, failure(error));
    }
  };
  return h(
    "details",
    { class: "card log", ontoggle: (event) => event.target.open && load() },
    h("summary", {}, "The run's log"),
    actionButton("Refresh", load, { class: "quiet" }),
    place,
  );
}
