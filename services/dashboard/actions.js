/** What can be done with a job or a batch: the buttons of a single one, and the requests that they send. */

import { path, post, remove } from "./api.js";
import { h } from "./dom.js";
import { go } from "./router.js";
import { actionButton, confirm, hasEnded } from "./widgets.js";

const posted = (verb) => (place) => post(`${place}/${verb}`);

/** Each action: its button's text and class, its request, and, where it may lose something, that it is asked about. */
export const ACTIONS = {
  cancel: { text: "Cancel", class: "danger", asks: true, send: posted("cancel") },
  resume: { text: "Resume", class: "main", send: posted("resume") },
  retry: { text: "Retry what failed", class: "main", send: posted("retry") },
  delete: { text: "Delete", class: "danger", asks: true, send: remove },
};

/** Ask about an action on `what`, such as "the batch", if it loses something; returns whether to go on. */
export function sure(verb, what, losses) {
  const { text, asks } = ACTIONS[verb];
  return asks ? confirm(`${text} ${what}?`, losses[verb], `${text} ${what}`) : true;
}

/**
 * Buttons that cancel, resume and delete a job or batch; those that lose something ask for confirmation.
 *
 * @param {object} about the document `one` of `list`, its `noun`, the action that starts it `again`, what is lost by
 *   action (`losses`), and `wake` to read it again.
 */
export function actions({ noun, one, list, wake, again = "resume", losses }, ...more) {
  const place = path(list, one.id);
  const button = (verb, then) => actionButton(ACTIONS[verb].text, async () => {
    if (!(await sure(verb, `the ${noun}`, losses))) return;
    await ACTIONS[verb].send(place);
    then();
  }, { class: ACTIONS[verb].class });
  return h(
    "div",
    { class: "actions" },
    ["queued", "running"].includes(one.status) && button("cancel", wake),
    ["failed", "partial", "cancelled"].includes(one.status) && button(again, wake),
    more,
    hasEnded(one.status) && button("delete", () => go(`/${list}`)),
  );
}
