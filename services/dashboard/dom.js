/** Functions that build the page. All text becomes text nodes: nothing from the API is parsed as HTML. */

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "selected") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Create an HTML element: `h("p", {class: "note"}, "text", node)`; properties such as `onclick` are listeners. */
export function h(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** Create an SVG element. */
export function s(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** Replace a node's children. The focus stays with the child of the same name, else with the node. */
export function replace(node, ...children) {
  const held = node.contains(document.activeElement) && node !== document.activeElement ? document.activeElement : null;
  node.replaceChildren();
  append(node, children);
  if (held && !node.contains(held)) {
    const same = [...node.querySelectorAll(held.localName)].find((one) => nameOf(one) === nameOf(held));
    if (!same) node.tabIndex = -1;
    (same ?? node).focus({ preventScroll: true });
  }
  return node;
}

function nameOf(node) {
  return node.id || node.ariaLabel || node.textContent;
}

/** Return a function that calls `draw(data)` only when the data has changed, so that focus and open parts stay. */
export function whenChanged(draw) {
  let last;
  const changed = (data) => {
    const text = JSON.stringify(data);
    if (text === last) return;
    last = text;
    draw(data);
  };
  /** Forget the last data, so that the next call draws: other content is shown in its place. */
  changed.forget = () => {
    last = undefined;
  };
  return changed;
}

let count = 0;

/** An id that no other element has. */
export function freshId(stem) {
  count += 1;
  return `${stem}-${count}`;
}

/** Announce a message to screen readers. */
export function announce(text) {
  document.getElementById("live").textContent = text;
}
