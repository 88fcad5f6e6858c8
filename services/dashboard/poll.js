/** Looking again and again, while the page is seen. */

import { Unreachable } from "./api.js";
import { pause } from "./stream.js";

/** Call `look()` until it gives a false value or one leaves; it gives the milliseconds to the next time. */
export async function poll(look, signal, failed) {
  while (!signal.aborted) {
    let next = 2000;
    try {
      next = await look();
      if (!next) return;
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Unreachable)) {
        if (!failed || !failed(error)) throw error;
      }
    }
    await pause(next, signal);
    while (document.hidden && !signal.aborted) await pause(1000, signal);
  }
}
