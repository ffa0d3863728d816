// @ts-check
/** Making elements. Text only ever goes in as text. */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {{class?: string, text?: string, attributes?: Record<string, string>, children?: (Node | string)[]}} [parts]
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, parts = {}) {
  const made = document.createElement(tag);
  if (parts.class) made.className = parts.class;
  if (parts.text !== undefined) made.textContent = parts.text;
  for (const [name, value] of Object.entries(parts.attributes ?? {})) made.setAttribute(name, value);
  made.append(...(parts.children ?? []));
  return made;
}

/**
 * The element with this id, which the template promises.
 * @template {HTMLElement} T
 * @param {string} id
 * @param {{new (): T}} type
 * @returns {T}
 */
export function byId(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`The page has no ${type.name} #${id}`);
  return found;
}
