/** Actions on the ticked rows of a list. Each job gets the request of its own action, and its own outcome is shown. */

import { ACTIONS, sure } from "./actions.js";
import { Refusal, path } from "./api.js";
import { announce, freshId, h, replace } from "./dom.js";
import { pause } from "./stream.js";
import { still } from "./widgets.js";

export const MOST = 200; // jobs of one action
const VERBS = ["cancel", "resume", "delete"];

export class Bulk {
  /** @param {object} about the `list` and its `noun`, what each action loses (`losses`), and `wake` to read the list again. */
  constructor({ list, noun, losses, wake }, signal) {
    Object.assign(this, { list, noun, losses, wake, signal });
    this.ticked = new Set();
    this.progress = null; // of an action under way, in words
    this.boxes = new Map();
    const id = freshId("all");
    this.all = h("input", { type: "checkbox", id, onchange: () => this.tickAll() });
    this.count = h("span", { class: "small", role: "status" });
    this.buttons = VERBS.map((verb) =>
      h("button", { type: "button", class: ACTIONS[verb].class, "aria-label": `${ACTIONS[verb].text} the ticked ${noun}s`, onclick: () => this.ask(verb) }, ACTIONS[verb].text),
    );
    this.verbs = h("span", { class: "verbs", hidden: true }, this.buttons);
    this.outcomes = h("section", { class: "card outcomes", "aria-label": "Outcomes", tabindex: "-1", hidden: true });
    this.node = h(
      "div",
      { class: "bulk", role: "group", "aria-label": `Ticked ${noun}s`, hidden: true },
      h("div", { class: "bar" }, this.all, h("label", { for: id }, "All on this page"), this.count, this.verbs),
      this.outcomes,
    );
  }

  /** The rows that are shown now; ticks of others are removed. */
  shows(ids) {
    this.boxes = new Map(ids.map((id) => [id, this.box(id)]));
    for (const id of this.ticked) if (!this.boxes.has(id)) this.ticked.delete(id);
    this.node.hidden = ids.length === 0 && this.outcomes.hidden;
    this.tell();
  }

  /** The box of a row that is shown. */
  boxOf(id) {
    return this.boxes.get(id);
  }

  box(id) {
    const made = h("input", { type: "checkbox", "aria-label": `Tick ${id}`, checked: this.ticked.has(id) });
    made.addEventListener("change", () => this.tick(id, made.checked));
    return made;
  }

  tick(id, on) {
    if (on) this.ticked.add(id);
    else this.ticked.delete(id);
    this.tell();
  }

  tickAll() {
    this.ticked = new Set(this.all.checked ? [...this.boxes.keys()].slice(0, MOST) : []);
    for (const [id, box] of this.boxes) box.checked = this.ticked.has(id);
    this.tell();
  }

  tell() {
    const [count, shown] = [this.ticked.size, this.boxes.size];
    this.all.checked = count > 0 && count === shown;
    this.all.indeterminate = count > 0 && count < shown;
    this.count.textContent = this.progress ?? (count ? `${count} ticked` : "");
    this.verbs.hidden = count === 0;
  }

  ask(verb) {
    return still(this.buttons, async () => {
      const ids = [...this.boxes.keys()].filter((id) => this.ticked.has(id)).slice(0, MOST);
      const what = `${ids.length} ${this.noun}${ids.length === 1 ? "" : "s"}`;
      if (!ids.length || !(await sure(verb, what, this.losses))) return;
      const found = await this.each(verb, ids);
      if (this.signal.aborted) return;
      this.show(verb, found);
      await this.wake();
    });
  }

  /** Do it for each job; once the service does not answer, the others are not tried. */
  async each(verb, ids) {
    const found = [];
    let gone = null;
    for (const id of ids) {
      if (gone) {
        found.push({ id, failed: `not tried. ${gone.message}` });
        continue;
      }
      this.progress = `${ACTIONS[verb].text}: ${found.length + 1} of ${ids.length}`;
      this.tell();
      try {
        const made = await patiently(() => ACTIONS[verb].send(path(this.list, id)), this.signal);
        found.push({ id, status: made?.status ?? "deleted" });
        this.ticked.delete(id);
      } catch (error) {
        if (!(error instanceof Refusal)) gone = error;
        found.push({ id, failed: gone ? `no answer; it may be done or not. ${error.message}` : `refused. ${error.message}` });
      }
    }
    return found;
  }

  show(verb, found) {
    this.progress = null;
    const failed = found.filter((one) => one.failed);
    const done = found.length - failed.length;
    const text = `${ACTIONS[verb].text}: ${done} done${failed.length ? `, ${failed.length} not` : ""}.`;
    replace(
      this.outcomes,
      h("p", {}, h("b", {}, text)),
      h("ul", {}, [...failed, ...found.filter((one) => !one.failed)].map((one) =>
        h("li", { "data-outcome": one.id, class: one.failed ? "problem" : null }, `${one.id}: ${one.failed ?? one.status}`))),
      h("button", { type: "button", onclick: () => this.dismiss() }, "Close"),
    );
    this.outcomes.hidden = false;
    for (const [id, box] of this.boxes) box.checked = this.ticked.has(id);
    this.tell();
    announce(text);
    this.outcomes.focus();
  }

  dismiss() {
    this.outcomes.hidden = true;
    this.node.hidden = this.boxes.size === 0;
    this.all.focus();
  }
}

/** Send a request, and again after the pause that the service asks for where a key sends too many. */
async function patiently(work, signal) {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (error.code !== "rate_limited" || signal.aborted) throw error;
      await pause(1000 * (error.retryAfter ?? 1), signal);
    }
  }
}
