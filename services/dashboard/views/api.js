/** The routes of the service, from its OpenAPI document. */

import { get } from "../api.js";
import { h, replace } from "../dom.js";
import { poll } from "../poll.js";
import { copyable, opens, section, table } from "../widgets.js";

export function apiView(_found, _query, signal) {
  const place = h("div", {}, h("p", { class: "empty" }, "Loading …"));
  poll(async () => {
    replace(place, parts(await get("/openapi.json", signal)));
  }, signal, place);
  return { title: "API", node: place };
}

function parts({ info, paths, components: { schemas } }) {
  const all = Object.entries(paths).flatMap(([path, verbs]) => Object.entries(verbs).map(([verb, one]) => ({ path, verb, ...one })));
  const groups = Map.groupBy(all, ({ tags }) => tags?.[0] ?? "service");
  return [
    h("p", {}, `${info.title} ${info.version}. `, h("a", { href: "/openapi.json" }, "The OpenAPI document"), " is for programs."),
    [...groups].map(([name, found]) => section(name, found.map(operation))),
    section("Documents", Object.entries(schemas).map(([name, schema]) => opens(name, fieldsOf(name, schema)))),
  ];
}

function operation({ path, verb, description, parameters = [], requestBody, responses }) {
  return opens(
    `${verb.toUpperCase()} ${path}`,
    description && h("p", {}, description),
    parameters.length > 0 && table(
      `Parameters of ${verb} ${path}`,
      ["Parameter", "In", "Type", "What it is"],
      parameters.map((one) => [h("code", {}, one.name), one.in, type(one.schema), one.description ?? ""]),
      "",
    ),
    requestBody && h("p", {}, "Body: ", bodies(requestBody.content)),
    h("ul", {}, Object.entries(responses).map(([status, one]) => h("li", {}, `${status}: `, one.content ? bodies(one.content) : one.description))),
  );
}

function bodies(content) {
  return Object.entries(content).map(([kind, { schema }]) => `${kind} ${type(schema)}`).join(", ");
}

/** Describe a schema in a few words. */
function type(schema = {}) {
  const { $ref: ref, anyOf, items, enum: choices, const: only, type: name, additionalProperties: values } = schema;
  if (ref) return ref.split("/").at(-1);
  if (anyOf) return anyOf.map(type).join(" or ");
  if (choices) return choices.map((one) => JSON.stringify(one)).join(", ");
  if (only !== undefined) return JSON.stringify(only);
  if (name === "array") return `list of ${type(items)}`;
  if (name === "object" && typeof values === "object") return `names to ${type(values)}`;
  return name ?? "anything";
}

function fieldsOf(name, schema) {
  if (!schema.properties) return copyable(`the schema of ${name}`, JSON.stringify(schema, null, 2));
  return [
    schema.description && h("p", {}, schema.description),
    table(
      `Fields of ${name}`,
      ["Field", "Type", "What it is"],
      Object.entries(schema.properties).map(([field, one]) => [
        h("code", {}, field),
        type(one),
        [one.description ?? "", schema.required?.includes(field) ? " Needed." : "default" in one && ` Default: ${JSON.stringify(one.default)}.`],
      ]),
      "It has no fields.",
    ),
  ];
}
