/** Pictures of a result, fetched with the key, which an <img> could not send. */

import { getBlob, path } from "./api.js";
import { h } from "./dom.js";

/** A figure for each picture; of several formats the last by name is shown, and all can be downloaded. */
export function pictures(job, signal) {
  const formats = new Map();
  for (const name of Object.keys(job.pictures ?? {}).sort()) {
    const stem = name.replace(/\.\w+$/, "");
    formats.set(stem, [...(formats.get(stem) ?? []), name]);
  }
  return [...formats].map(([stem, names]) => figure(job, stem, names, signal));
}

function figure(job, stem, names, signal) {
  const image = h("img", { alt: `The ${stem} of ${job.id}: candidates, those that no other beats, and the chosen students` });
  const links = names.map((name) => h("a", { download: `${job.id}-${name}`, hidden: true }, `Save ${name}`));
  const node = h("figure", {}, image, h("figcaption", { class: "pages" }, links));
  names.forEach(async (name, index) => {
    try {
      const url = URL.createObjectURL(await getBlob(path("compressions", job.id, "pictures", name), signal));
      signal.addEventListener("abort", () => URL.revokeObjectURL(url));
      links[index].href = url;
      links[index].hidden = false;
      if (index === names.length - 1) image.src = url;
    } catch (error) {
      if (!signal.aborted) links[index].replaceWith(h("span", { class: "problem" }, `${name}: ${error.message}`));
    }
  });
  return node;
}
