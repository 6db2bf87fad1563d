// Numbers and elements as the page writes them.

export const $ = (id) => document.getElementById(id);

export const percent = (share, digits = 1) => (Number.isFinite(share) ? `${(100 * share).toFixed(digits)} %` : "–");

export function joules(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return `${(value / 1e6).toFixed(2)} MJ`;
  if (size >= 1e3) return `${(value / 1e3).toFixed(2)} kJ`;
  if (size >= 10) return `${value.toFixed(1)} J`;
  if (size >= 1 || size === 0) return `${value.toFixed(2)} J`;
  if (size >= 0.1) return `${(1e3 * value).toFixed(0)} mJ`;
  return size >= 1e-4 ? `${(1e3 * value).toFixed(1)} mJ` : `${(1e6 * value).toFixed(0)} µJ`;
}

export function duration(ms) {
  if (!Number.isFinite(ms)) return "–";
  return ms < 1000 ? `${ms.toFixed(ms < 10 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
}

export function short(value) {
  if (!Number.isFinite(value)) return "–";
  return Math.abs(value) >= 1000 ? `${+(value / 1000).toFixed(1)}k` : `${+value.toPrecision(3)}`;
}

export const plural = (count, word) => `${short(count)} ${word}${count === 1 ? "" : "s"}`;

export function element(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "text") made.textContent = value;
    else if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

export function drawn(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    // The page's policy forbids style attributes, not styles set by its own script.
    if (name === "style") made.style.cssText = value;
    else made.setAttribute(name, value);
  }
  if (text !== undefined) made.textContent = text;
  return made;
}

export function swatch(paint) {
  const made = element("i", { class: "swatch", "aria-hidden": "true" });
  made.style.background = paint;
  return made;
}

// Writes only what changed, so that a reader's selection and a screen reader's place survive.
export function say(target, text, className) {
  if (target.textContent !== text) target.textContent = text;
  if (className !== undefined && target.className !== className) target.className = className;
}
