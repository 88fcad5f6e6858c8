/** Polling while the page is visible. */

import { Unreachable } from "./api.js";
import { replace } from "./dom.js";
import { pause } from "./stream.js";
import { failure } from "./widgets.js";

const AGAIN_MS = 2000;

/**
 * Call `look()` until it returns a false value or the view is left; it returns the milliseconds to the next call.
 *
 * A refusal is shown in `place` until `draw` (of `whenChanged`) fills it again; temporary ones are retried. While the
 * service does not answer, the content stays: connection.js reports it.
 */
export async function poll(look, signal, place, draw) {
  while (!signal.aborted) {
    let next = AGAIN_MS;
    try {
      next = await look();
      if (!next) return;
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Unreachable)) {
        draw?.forget();
        replace(place, failure(error));
        if (!(error.status >= 500 || error.status === 429)) return;
      }
    }
    await pause(next, signal);
    while (document.hidden && !signal.aborted) await pause(1000, signal);
  }
}
