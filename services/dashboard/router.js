/** Routes in the hash, `#/compressions/cmp_1?status=running`, so that reloads and links keep the view. */

const routes = [];
let leave = null;

/** Register `view(parameters, query, signal)` for a path such as `/compressions/:id`; `signal` aborts on leaving. */
export function route(pattern, view) {
  routes.push({ parts: pattern.split("/"), view });
}

/** A link's target; empty values are left out. */
export function link(path, query = {}) {
  const given = Object.entries(query).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
  const text = new URLSearchParams(given.filter(([, value]) => value)).toString();
  return `#${path}${text ? `?${text}` : ""}`;
}

export function go(path, query) {
  location.hash = link(path, query);
}

/** The current path parts and query. */
export function here() {
  const [path, query = ""] = (location.hash.replace(/^#/, "") || "/compressions").split("?");
  return { path, parts: path.split("/"), query: new URLSearchParams(query) };
}

function match(parts) {
  for (const { parts: pattern, view } of routes) {
    if (pattern.length !== parts.length) continue;
    const found = {};
    const fits = pattern.every((part, index) => {
      if (!part.startsWith(":")) return part === parts[index];
      try {
        found[part.slice(1)] = decodeURIComponent(parts[index]);
      } catch {
        return false;
      }
      return parts[index] !== "";
    });
    if (fits) return { view, found };
  }
  return null;
}

/** Show the view of the address, now and at every change; `missing()` shows an unknown address. */
export function start(shown, missing) {
  const follow = () => {
    if (location.hash === "#main") return; // the skip link
    leave?.abort();
    leave = new AbortController();
    const { parts, query, path } = here();
    const { view, found } = match(parts) ?? { view: missing, found: {} };
    shown(path, () => view(found, query, leave.signal));
  };
  addEventListener("hashchange", follow);
  follow();
  return follow;
}
