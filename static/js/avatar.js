// @ts-check
/** The round picture of somebody: initials on a colour that is always theirs. */

import { element } from "./element.js";
import { hueOf, initialsOf, nameOf } from "./names.js";

/** As many as room.css has classes .hue-0, .hue-1, ... */
const HUES = 12;

/** @param {string} clientId */
export function hueClassOf(clientId) {
  return `hue-${hueOf(clientId, HUES)}`;
}

/** @param {string} clientId */
export function avatarOf(clientId) {
  const { name } = nameOf(clientId);
  const made = element("span", { class: `avatar ${hueClassOf(clientId)}`, text: initialsOf(name) });
  made.setAttribute("aria-hidden", "true");
  return made;
}
