/** State of the connection: shows it at the top of the page, polls a service that is away, and notifies the views. */

import { announce } from "./dom.js";

const FIRST_MS = 500;
const LONGEST_MS = 5000;

let gone = false;

/** Called whenever a request got no answer. */
export function lost() {
  if (gone) return;
  gone = true;
  const line = document.getElementById("connection");
  line.textContent = "The service does not answer. Trying again until it does; runs go on without it.";
  line.hidden = false;
  look(FIRST_MS);
}

/** Called whenever there was an answer. */
export function found() {
  if (!gone) return;
  gone = false;
  document.getElementById("connection").hidden = true;
  announce("The service answers again.");
  dispatchEvent(new Event("stillroom:back"));
}

export function isGone() {
  return gone;
}

function look(pause) {
  setTimeout(async () => {
    if (!gone) return;
    try {
      const answer = await fetch("/healthz", { cache: "no-store" });
      if (answer.ok) found();
    } catch {
      // The service is still away.
    }
    if (gone) look(Math.min(1.5 * pause, LONGEST_MS));
  }, pause);
}
