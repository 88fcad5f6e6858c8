/** Events of all attempts, except the points of loss curves. */

import { h } from "../dom.js";

export function events() {
  const list = h("ol", { class: "events" });
  const summary = h("summary", {}, "What happened");
  const node = h("details", { class: "card", hidden: true }, summary, list);
  return {
    node,
    add({ attempt, sequence, time, type, message }) {
      node.hidden = false;
      const at = new Date(time);
      list.append(
        h(
          "li",
          { "data-event": `${attempt}-${sequence}` },
          h("time", { datetime: time }, Number.isNaN(at.getTime()) ? time : at.toLocaleTimeString("en-GB")),
          " ",
          h("b", {}, type),
          " ",
          message,
        ),
      );
      summary.textContent = `What happened (${list.children.length})`;
    },
  };
}
