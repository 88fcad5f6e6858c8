/** Sending of forms: the same content sent twice makes one document, and problems are shown at their fields. */

import { freshKey, post } from "../api.js";
import { announce, h } from "../dom.js";
import { still } from "../widgets.js";
import { clearFindings, showFindings } from "./findings.js";

export class Sending {
  /** @param {Function} places returns the places where problems can be shown. */
  constructor(places) {
    this.places = places;
    this.buttons = [];
    this.summary = h("div", { class: "problem summary", role: "alert", tabindex: "-1", hidden: true });
    this.changed();
  }

  button(text, attributes) {
    const made = h("button", attributes, text);
    this.buttons.push(made);
    return made;
  }

  /** The content has changed since it was sent: it gets a new key. */
  changed() {
    this.once = freshKey();
  }

  /** Do some work with the buttons inactive, and show refusals. */
  send(work) {
    return still(this.buttons, async () => {
      const places = this.places();
      clearFindings(places, this.summary);
      try {
        await work();
      } catch (error) {
        showFindings(error, places, this.summary);
      }
    });
  }

  /** Send a new document, and announce it. */
  async submit(place, body) {
    const made = await post(place, body, { once: this.once });
    announce("Submitted.");
    return made;
  }
}

/** A form for one document: `body()` is sent to `place`, and `done(made)` gets the answer. */
export function sendingForm({ parts, places, verb, place, body, done }) {
  const sending = new Sending(places);
  const submit = (event) => {
    event.preventDefault();
    sending.send(async () => done(await sending.submit(place, body())));
  };
  return h(
    "form",
    { class: "request", novalidate: true, oninput: () => sending.changed(), onsubmit: submit },
    sending.summary,
    parts,
    h("div", { class: "actions" }, sending.button(verb, { type: "submit", class: "main" })),
  );
}
