/** A job's events as they happen: server-sent events over fetch, since an EventSource cannot send a key.
 *
 * A broken or silent connection is opened again after the last event received, so none is lost or doubled.
 */

import { Refusal, path, send } from "./api.js";

const SILENCE_MS = 45_000; // the service sends a heartbeat every 15 s
const PAUSE_MS = 2000;

/** Parses a stream's text as it comes and calls `tell({id, event, data})`. */
export class Messages {
  constructor(tell) {
    this.tell = tell;
    this.rest = "";
    this.current = {};
    this.retry = PAUSE_MS;
  }

  take(text) {
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop();
    for (const line of lines) this.line(line);
  }

  line(line) {
    if (line === "") {
      if (this.current.data !== undefined) this.tell(this.current);
      this.current = {};
      return;
    }
    const [, name, value] = line.match(/^([^:]*):? ?(.*)$/);
    if (name === "data") this.current.data = this.current.data === undefined ? value : `${this.current.data}\n${value}`;
    else if (name === "retry" && /^\d+$/.test(value)) this.retry = Number(value);
    else if (name) this.current[name] = value;
  }
}

/** Follow a job from its first event until its end; `tell(event)` is called with each event, once and in order. */
export class EventFollower {
  constructor(job, tell, signal) {
    this.job = job;
    this.tell = tell;
    this.signal = signal;
    this.last = null;
    this.running = false;
  }

  /** Start, or continue after a resumed job; has no effect while it runs. */
  async start() {
    if (this.running) return;
    this.running = true;
    try {
      while (!this.signal.aborted && !(await this.listen())) await pause(this.retry ?? PAUSE_MS, this.signal);
    } finally {
      this.running = false;
    }
  }

  /** Read one connection; returns true when no more events follow. */
  async listen() {
    const quit = new AbortController();
    const both = AbortSignal.any([quit.signal, this.signal]);
    let timer;
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(() => quit.abort(), SILENCE_MS);
    };
    let ended = false;
    const messages = new Messages(({ id, event, data }) => {
      if (event === "end") {
        ended = true;
        return;
      }
      if (id) this.last = id;
      this.tell(JSON.parse(data));
    });
    try {
      heard();
      const since = this.last ? { "Last-Event-ID": this.last } : {};
      const answer = await send(path("compressions", this.job, "events"), {
        signal: both,
        cache: "no-store",
        headers: { Accept: "text/event-stream", ...since },
      });
      if (answer.status === 204) return true;
      if (!answer.ok) return answer.status < 500 && answer.status !== 429;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        heard();
        messages.take(value);
        this.retry = messages.retry;
      }
    } catch (error) {
      if (error instanceof Refusal) throw error;
      // The connection broke; the next one goes on from the last event.
    } finally {
      clearTimeout(timer);
      quit.abort();
    }
    return ended;
  }
}

/** Wait; ends early when the view is left or the service is back. */
export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      removeEventListener("stillroom:back", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    signal.addEventListener("abort", end);
    addEventListener("stillroom:back", end);
  });
}
