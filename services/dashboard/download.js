/** Downloads of archives of up to gigabytes.
 *
 * Without a key, a plain link is used. With one, a service worker adds it (worker.js), and the browser streams to disk.
 * Service workers need https or localhost; elsewhere the answer is read as a blob, which browsers keep on disk too.
 */

import { Refusal, freshKey, getBlob, headers } from "./api.js";
import { currentKey } from "./key.js";

const BEGIN_MS = 30_000;

/** Save the file at `path` as `name`. */
export async function download(path, name) {
  if (!currentKey()) return follow(path, name);
  const worker = await registered();
  if (!worker) return save(await getBlob(path), name);
  return through(worker, path);
}

/** Save a blob. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  follow(url, name);
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

function follow(address, name) {
  const anchor = document.createElement("a");
  anchor.href = address;
  if (name) anchor.download = name;
  document.body.append(anchor);
  anchor.click();
  anchor.remove();
}

async function registered() {
  if (!navigator.serviceWorker) return null;
  try {
    const registration = await navigator.serviceWorker.register(workerUrl(), { scope: "/static/" });
    const worker = registration.active ?? registration.waiting ?? registration.installing;
    await new Promise((resolve) => {
      const look = () => worker.state === "activated" && resolve();
      worker.addEventListener("statechange", look);
      look();
    });
    return worker;
  } catch {
    return null; // service workers are not allowed here
  }
}

let policy;

function workerUrl() {
  const place = "/static/worker.js";
  if (!window.trustedTypes) return place;
  policy ??= window.trustedTypes.createPolicy("stillroom-worker", { createScriptURL: () => place });
  return policy.createScriptURL("");
}

function through(worker, path) {
  const id = freshKey();
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("The download did not begin.")), BEGIN_MS);
    port1.onmessage = ({ data }) => {
      if (data === "ready") return follow(`/static/download/${id}`);
      clearTimeout(timer);
      if (data === "begun") return resolve();
      return reject(refused(data));
    };
    worker.postMessage({ id, path, headers: headers() }, [port2]);
  });
}

function refused({ status, text }) {
  if (!status) return new Error("The service does not answer.");
  try {
    return new Refusal(JSON.parse(text), status);
  } catch {
    return new Refusal({}, status);
  }
}
