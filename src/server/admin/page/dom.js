// Elements: construction, and updates that write only what changed. Data becomes text nodes and attributes, never markup.

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);

/** Creates an element; `children` are nodes and texts. */
function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function svgElement(name, attributes = {}) {
  const node = document.createElementNS(SVG_NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

/** Sets the text of an element that has no child elements. */
function setText(node, text) {
  const value = String(text);
  const first = node.firstChild;
  if (first === null) {
    if (value !== "") node.append(value);
  } else if (first.data !== value) {
    first.data = value;
  }
}

function setAttribute(node, name, value) {
  const text = String(value);
  if (node.getAttribute(name) !== text) node.setAttribute(name, text);
}

function setHidden(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

/** Sets the width of a bar, a fraction from 0 to 1. */
function setBar(node, fraction) {
  const width = `${(100 * Math.min(1, Math.max(0, fraction || 0))).toFixed(1)}%`;
  if (node.style.width !== width) node.style.width = width;
}

function hiddenText(text) {
  return element("span", { class: "visually-hidden" }, text);
}

/** Makes the children of `parent` exactly `nodes`, in order; the element with the focus keeps it. */
function reconcile(parent, nodes) {
  const focused = document.activeElement;
  let next = parent.firstChild;
  for (const node of nodes) {
    if (node === next) next = next.nextSibling;
    else parent.insertBefore(node, next);
  }
  while (next !== null) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
}

/** Returns whether rows are cards, which are long. */
function isNarrow() {
  return matchMedia("(max-width: 60rem)").matches;
}

/** Returns whether a pointer or the focus is inside, so that what is under it must not move. */
function isInUse(node) {
  const hovers = matchMedia("(hover: hover)").matches && node.matches(":hover");
  return hovers || (node.contains(document.activeElement) && document.activeElement !== node);
}

// ---- messages to the user

let toastTimer = 0;

/** Shows the result of an action, and has it read aloud. A failure stays until it is dismissed. */
function notify(text, kind = "good") {
  const toast = byId("toast");
  clearTimeout(toastTimer);
  toast.dataset.kind = kind;
  toast.hidden = false;
  setText(byId("toast-text"), text);
  if (kind !== "bad") toastTimer = setTimeout(hideToast, 8000);
}

function hideToast() {
  byId("toast").hidden = true;
  setText(byId("toast-text"), "");
}
