/** Problems of a request, shown at their fields. */

import { h, replace } from "../dom.js";

/** The place for a pointer: its own, else its nearest ancestor, else its first descendant. */
export function placeOf(pointer, places) {
  if (pointer === null || pointer === undefined) return null;
  const around = places
    .filter((one) => pointer === one.pointer || pointer.startsWith(`${one.pointer}/`))
    .sort((one, other) => other.pointer.length - one.pointer.length);
  return around[0] ?? places.find((one) => one.pointer.startsWith(`${pointer}/`)) ?? null;
}

/** Replace names of request fields in a message of the service by the form's labels; of fields of one name, by the one beside `place`. */
export function inFormWords(text, places, place) {
  const parent = ({ pointer }) => pointer.slice(0, pointer.lastIndexOf("/"));
  const far = (one) => Number(!place || parent(one) !== parent(place));
  let said = text;
  for (const { pointer, label } of [...places].sort((one, other) => far(one) - far(other))) {
    if (!label) continue;
    const path = pointer.slice(1).replaceAll("/", ".");
    const last = path.slice(path.lastIndexOf(".") + 1);
    for (const name of new Set([`'${path}'`, `'${last}'`])) said = said.replaceAll(name, `“${label}”`);
  }
  return said;
}

/** Show the errors of a refusal; returns the summary to show above the form. */
export function showFindings(error, places, summary) {
  const byPlace = new Map();
  const others = [];
  for (const finding of error.errors ?? []) {
    const place = placeOf(finding.pointer, places);
    const text = inFormWords(`${finding.problem} ${finding.remedy}`, places, place);
    if (place) byPlace.set(place, [...(byPlace.get(place) ?? []), text]);
    else others.push(`${finding.field}: ${text}`);
  }
  for (const place of places) place.fault(byPlace.has(place) ? byPlace.get(place).join(" ") : null);
  const count = byPlace.size;
  const items = others.length || count ? others : [error.message];
  replace(
    summary,
    count > 0 && h("p", {}, count === 1 ? "One field needs a look." : `${count} fields need a look.`),
    items.length > 0 && h("ul", {}, items.map((text) => h("li", {}, text))),
  );
  summary.hidden = false;
  const first = places.find((place) => byPlace.has(place));
  if (first) first.focus();
  else summary.focus();
}

export function clearFindings(places, summary) {
  for (const place of places) place.fault(null);
  summary.hidden = true;
  replace(summary);
}
