// @ts-check
/** Small line drawings, 24 by 24, in the colour of the text beside them. */

const NAMESPACE = "http://www.w3.org/2000/svg";

const PATHS = {
  clock: ["M12 7v5l3 2", "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Z"],
  eye: ["M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12Z", "M12 9.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5Z"],
  blocked: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Z", "m5.7 5.7 12.6 12.6"],
  wand: ["m4 20 11-11", "M17 3v4", "M15 5h4", "M19.5 11.5v3", "M18 13h3", "M9 4v2", "M8 5h2"],
  removed: ["M5 7h14", "M9 7V4.5h6V7", "m7 7 .8 12.5h8.4L17 7"],
  image: ["M4 5h16v14H4z", "m4 16 4.5-4.5 4 4 3-3L20 17", "M15.5 8.5h.01"],
  external: ["M14 5h5v5", "m19 5-8 8", "M18 14v5H5V6h5"],
  close: ["m6 6 12 12", "m18 6-12 12"],
};

/** @param {keyof typeof PATHS} name */
export function icon(name) {
  const svg = document.createElementNS(NAMESPACE, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  for (const d of PATHS[name]) {
    const path = document.createElementNS(NAMESPACE, "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}
