// Elements made by hand. Text from outside only ever becomes a text node.

// What cannot be seen, or moves what is seen (bidirectional overrides); as in anomaly/names.py, but for our own newlines and tabs.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]/g;
const READ = new Set(["aria-label", "title", "alt", "placeholder"]); // attributes that people see or hear

/** Text from outside as a person may have it: \xHH and \uHHHH for what cannot be seen. */
export function seen(text) {
  return String(text).replace(UNSEEN, (letter) => {
    const code = letter.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

/** An element. `props`: `class`, `on…` handlers, properties by attribute name; false, null and undefined are left out. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else if (name === "checked" || name === "disabled" || name === "selected") element[name] = Boolean(value);
    else element.setAttribute(name, value === true ? "" : READ.has(name) ? seen(value) : String(value));
  }
  add(element, children);
  return element;
}

/** Children: elements, texts, numbers, lists of them; nothing for null, undefined and false. */
export function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(seen(child)));
  }
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** An element of a drawing. */
export function svg(tag, props = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) element.setAttribute(name, READ.has(name) ? seen(value) : String(value));
  return add(element, children);
}

/** Put new children in place of all old ones. */
export function fill(element, ...children) {
  element.replaceChildren();
  return add(element, children);
}

/** Redraw a part and leave the keyboard where it was: what had the focus is found again by its `data-key`. */
export function redraw(element, ...children) {
  const key = element.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  fill(element, ...children);
  if (key !== undefined) element.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}
