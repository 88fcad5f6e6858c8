/** The API key: asked for when the service wants one, kept for this tab alone. */

import { h, replace } from "./dom.js";

const NAME = "stillroom-key";

let asking = null;

export function currentKey() {
  return sessionStorage.getItem(NAME);
}

export function forgetKey() {
  sessionStorage.removeItem(NAME);
}

/** Ask for a key; concurrent callers share one prompt. */
export function askForKey(refusal) {
  asking ??= prompt(currentKey() ? refusal.message : null).finally(() => {
    asking = null;
  });
  return asking;
}

function prompt(problem) {
  return new Promise((resolve) => {
    const field = h("input", {
      id: "key", type: "password", autocomplete: "off", spellcheck: "false", required: true,
      "aria-describedby": problem ? "key-note key-problem" : "key-note", "aria-invalid": problem ? "true" : null,
    });
    const dialog = h("dialog", { "aria-labelledby": "key-title", class: "dialog" });
    const done = (event) => {
      event.preventDefault();
      const key = field.value.trim();
      if (!key) return;
      sessionStorage.setItem(NAME, key);
      dialog.remove();
      dispatchEvent(new Event("stillroom:key"));
      resolve();
    };
    replace(
      dialog,
      h("h2", { id: "key-title" }, "This service asks for a key"),
      problem && h("p", { id: "key-problem", class: "problem", role: "alert" }, problem),
      h(
        "form",
        { onsubmit: done },
        h("label", { for: "key" }, "API key"),
        field,
        h("p", { id: "key-note", class: "note" }, "It is kept in this tab until you close it, and sent to this service alone."),
        h("div", { class: "actions" }, h("button", { type: "submit", class: "main" }, "Use this key")),
      ),
    );
    // Nothing works without a key, so the prompt stays; some browsers close it at the second Escape all the same.
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", () => dialog.isConnected && dialog.showModal());
    document.body.append(dialog);
    dialog.showModal();
  });
}
