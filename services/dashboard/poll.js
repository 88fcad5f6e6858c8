/** Looking again and again, while the page is seen. */

import { Unreachable } from "./api.js";
import { replace } from "./dom.js";
import { pause } from "./stream.js";
import { failure } from "./widgets.js";

const AGAIN_MS = 2000;

/**
 * Call `look()` until it gives a false value or one leaves; it gives the milliseconds to the next time.
 *
 * A refusal is shown in `place`, until `draw` (of `whenChanged`) fills it again; one that may pass is tried again. A
 * service that does not answer is the page's own matter (connection.js): what is shown stays.
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
