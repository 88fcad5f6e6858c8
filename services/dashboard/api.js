/** The API over fetch: sends the key, throws problems as errors, and reports whether the service answers. */

import { lost, found } from "./connection.js";
import { askForKey, currentKey } from "./key.js";

/** The service's refusal: a problem document. */
export class Refusal extends Error {
  constructor(problem, status, retryAfter = null) {
    super(problem.detail ?? `The service answered ${status}.`);
    this.status = status;
    this.retryAfter = retryAfter; // seconds
    this.code = problem.code ?? "other";
    this.errors = Array.isArray(problem.errors) ? problem.errors : [];
  }
}

/** The service does not answer. */
export class Unreachable extends Error {
  constructor() {
    super("The service does not answer.");
  }
}

export function headers(more = {}) {
  const key = currentKey();
  return key ? { Authorization: `Bearer ${key}`, ...more } : more;
}

/** Send a request and return the answer with any status; a 401 asks for the key and sends the request again. */
export async function send(path, { signal, headers: more, ...options } = {}) {
  for (;;) {
    let answer;
    try {
      answer = await fetch(path, { ...options, signal, headers: headers(more) });
    } catch (error) {
      if (signal?.aborted) throw error;
      lost();
      throw new Unreachable();
    }
    if ([502, 504].includes(answer.status)) {
      lost();
      throw new Unreachable();
    }
    found();
    if (answer.status !== 401) return answer;
    await askForKey(await refusal(answer));
    if (signal?.aborted) throw new DOMException("left", "AbortError");
  }
}

async function refusal(answer) {
  let problem = {};
  try {
    problem = await answer.json();
  } catch {
    // A proxy answered, not the service.
  }
  return new Refusal(typeof problem === "object" && problem !== null ? problem : {}, answer.status, Number(answer.headers.get("Retry-After")) || null);
}

async function answered(path, options) {
  const answer = await send(path, options);
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

/** Read a document. */
export async function get(path, signal) {
  return (await answered(path, { signal })).json();
}

/** Read a document, or null where the service does not have it. */
export async function getIfThere(path, signal) {
  try {
    return await get(path, signal);
  } catch (error) {
    if (error instanceof Refusal && [404, 405, 501].includes(error.status)) return null;
    throw error;
  }
}

/** Read bytes, such as a picture's. */
export async function getBlob(path, signal, more = {}) {
  return (await answered(path, { signal, headers: more })).blob();
}

/** Send a document, JSON as text, or nothing; `once` is the idempotency key of a new document. */
export async function post(path, body, { once } = {}) {
  const more = once ? { "Idempotency-Key": once } : {};
  if (body !== undefined) more["Content-Type"] = "application/json";
  const text = body === undefined || typeof body === "string" ? body : JSON.stringify(body);
  return (await answered(path, { method: "POST", body: text, headers: more })).json();
}

export async function remove(path) {
  await answered(path, { method: "DELETE" });
}

/** A new idempotency key. */
export function freshKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The path of a document below /v1, with each part escaped. */
export function path(...parts) {
  return `/v1/${parts.map(encodeURIComponent).join("/")}`;
}
