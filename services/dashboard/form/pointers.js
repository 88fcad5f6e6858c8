/** JSON pointers (RFC 6901) into a request. */

function tokens(pointer) {
  return pointer.split("/").slice(1).map((one) => one.replaceAll("~1", "/").replaceAll("~0", "~"));
}

export function valueAt(document, pointer) {
  return tokens(pointer).reduce((found, token) => (found === null || found === undefined ? undefined : found[token]), document);
}

/** Set a value, creating missing parents; undefined removes it. */
export function setAt(document, pointer, value) {
  const names = tokens(pointer);
  const last = names.pop();
  let place = document;
  for (const name of names) {
    if (typeof place[name] !== "object" || place[name] === null) {
      if (value === undefined) return;
      place[name] = {};
    }
    place = place[name];
  }
  if (value === undefined) delete place[last];
  else place[last] = value;
}
