/** Pictures of a result; fetched with the key, which an <img> could not send. */

import { getBlob, path } from "./api.js";
import { h } from "./dom.js";

export function pictures(job, signal) {
  const names = Object.keys(job.pictures ?? {}).sort();
  return names.map((name) => {
    const image = h("img", { alt: `The search of ${job.id} as a picture: candidates, frontier and the chosen students`, loading: "lazy" });
    const save = h("a", { download: `${job.id}-${name}`, hidden: true }, `Save ${name}`);
    const figure = h("figure", {}, image, h("figcaption", {}, save));
    getBlob(path("compressions", job.id, "pictures", name), signal).then(
      (blob) => {
        const url = URL.createObjectURL(blob);
        signal.addEventListener("abort", () => URL.revokeObjectURL(url));
        image.src = save.href = url;
        save.hidden = false;
      },
      (error) => signal.aborted || figure.replaceChildren(h("p", { class: "problem" }, `${name}: ${error.message}`)),
    );
    return figure;
  });
}
