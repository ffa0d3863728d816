// @ts-check
/** Images that a message carries: small in the message, large in a dialog. */

import { byId, element } from "./element.js";
import { icon } from "./icon.js";
import { linkTo } from "./text.js";

/** @typedef {import("./types.js").Embed} Embed */

/** @param {Embed[]} embeds */
export function embedElements(embeds) {
  return embeds.length > 0 ? [element("div", { class: "embeds", children: embeds.map(embedElement) })] : [];
}

/** @param {Embed} embed */
function embedElement(embed) {
  const image = imageOf(embed);
  image.loading = "lazy";
  // Room is kept before the image is here, so that nothing moves when it comes.
  if (embed.width && embed.height) {
    image.style.setProperty("aspect-ratio", `${embed.width} / ${embed.height}`);
    image.style.setProperty("width", `${embed.width}px`);
  } else image.classList.add("unmeasured");
  const button = element("button", { class: "embed", attributes: { type: "button" }, children: [image] });
  button.setAttribute("aria-label", embed.alt ? `Open image: ${embed.alt}` : "Open image");
  button.addEventListener("click", () => openImage(embed));
  image.addEventListener("load", () => button.classList.add("loaded"));
  image.addEventListener("error", () => button.replaceWith(brokenImage(embed)));
  return button;
}

/** @param {Embed} embed */
function imageOf({ url, alt }) {
  const image = element("img", { attributes: { alt, referrerpolicy: "no-referrer", decoding: "async" } });
  image.src = url;
  return image;
}

/** @param {Embed} embed */
function brokenImage({ url }) {
  const link = linkTo(url, `Image at ${new URL(url).host}`);
  link.className = "embed-broken";
  link.prepend(icon("image"));
  return link;
}

/** @param {Embed} embed */
function openImage(embed) {
  const dialog = byId("lightbox", HTMLDialogElement);
  const original = linkTo(embed.url, "Open original");
  original.prepend(icon("external"));
  const close = element("button", { class: "icon-button", attributes: { type: "button", "aria-label": "Close" } });
  close.append(icon("close"));
  close.addEventListener("click", () => dialog.close());
  const bar = element("div", { class: "lightbox-bar", children: [original, close] });
  dialog.replaceChildren(imageOf(embed), bar);
  dialog.onclick = (event) => event.target === dialog && dialog.close();
  dialog.onclose = () => dialog.replaceChildren();
  dialog.showModal();
}
