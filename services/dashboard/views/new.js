/** A new compression, as a form or as JSON, with an optional plan. */

import { get, getIfThere, path } from "../api.js";
import { freshId, h, replace } from "../dom.js";
import { clearFindings, showFindings } from "../form/findings.js";
import { RequestForm } from "../form/request-form.js";
import { Sending } from "../form/sending.js";
import { poll } from "../poll.js";
import { go } from "../router.js";
import { PlanPart } from "./plan.js";

export function newView(_found, query, signal) {
  const place = h("div", {}, h("p", { class: "empty" }, "Loading …"));
  poll(async () => {
    const { request, targets } = await ready(query.get("from"), signal);
    replace(place, new Submission(request, targets, signal).node);
  }, signal, place);
  return { title: "New compression", node: place };
}

async function ready(from, signal) {
  const [job, known] = await Promise.all([
    from ? get(path("compressions", from), signal) : null,
    getIfThere("/v1/latency-targets", signal),
  ]);
  return { request: job ? withoutEmpty(job.request) : {}, targets: known?.latency_targets ?? [] };
}

const NULL_SAYS = new Set(["relation"]); // null is none there, and not the default

/** A kept request has all fields; empty ones are left out. */
function withoutEmpty(value) {
  if (Array.isArray(value)) return value.map(withoutEmpty);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name, one]) => (one !== null || NULL_SAYS.has(name)) && !(Array.isArray(one) && one.length === 0))
      .map(([name, one]) => [name, withoutEmpty(one)]),
  );
}

class Submission {
  constructor(request, targets, signal) {
    this.raw = false;
    this.form = new RequestForm(targets);
    this.form.show(request);
    this.plan = new PlanPart(signal);
    this.sending = new Sending(() => (this.raw ? [] : this.form.places()));
    this.summary = this.sending.summary;
    const id = freshId("raw");
    this.text = h("textarea", { id, rows: 20, spellcheck: "false", class: "raw", "aria-describedby": `${id}-hint` });
    this.rawPart = h("div", { hidden: true, class: "field" }, h("label", { for: id }, "The request as JSON"), this.text, h("p", { class: "hint", id: `${id}-hint` }, "A YAML file is sent by `stillroom submit`."));
    this.switch = h("button", { type: "button", class: "quiet", onclick: () => this.change() }, "Write it as JSON");
    const submit = this.sending.button("Submit", { type: "submit", class: "main" });
    const plan = this.sending.button("Plan first", { type: "button", onclick: () => this.sending.send(() => this.makePlan()) });
    this.node = h(
      "div",
      {},
      h("form", { class: "request", novalidate: true, onsubmit: (event) => this.submit(event) },
        h("p", {}, this.switch, h("a", { class: "button quiet", href: "#/batches/new" }, "Several teachers at once")),
        this.summary,
        this.form.node,
        this.rawPart,
        h("div", { class: "actions" }, submit, plan)),
      this.plan.node,
    );
    this.node.addEventListener("input", () => this.sending.changed());
  }

  change() {
    if (this.raw) {
      let request;
      try {
        request = JSON.parse(this.text.value || "{}");
        if (request === null || typeof request !== "object" || Array.isArray(request)) throw new SyntaxError("It is no object.");
      } catch (error) {
        showFindings({ errors: [], message: `The form takes JSON. ${error.message}` }, [], this.summary);
        return;
      }
      this.form.show(request);
    } else {
      this.text.value = JSON.stringify(this.form.request(), null, 2);
    }
    clearFindings(this.form.places(), this.summary);
    this.raw = !this.raw;
    this.form.node.hidden = this.raw;
    this.rawPart.hidden = !this.raw;
    this.switch.textContent = this.raw ? "Back to the form" : "Write it as JSON";
    this.sending.changed();
  }

  body() {
    return this.raw ? this.text.value : this.form.request();
  }

  submit(event) {
    event.preventDefault();
    this.sending.send(async () => {
      const job = await this.sending.submit("/v1/compressions", this.body());
      go(`/compressions/${encodeURIComponent(job.id)}`);
    });
  }

  async makePlan() {
    this.plan.follow(await this.sending.submit("/v1/compressions/plan", this.body()));
    this.plan.node.scrollIntoView({ block: "nearest" });
  }
}
