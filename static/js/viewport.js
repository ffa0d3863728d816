// @ts-check
/** Keeps the page as high as what can be seen of it: phones lay their keyboard over the page. */

export function followViewport() {
  const viewport = window.visualViewport;
  if (!viewport) return;
  const apply = () => {
    // Zoomed in by hand, the page is to stay as it is.
    if (viewport.scale !== 1) return;
    document.documentElement.style.setProperty("--viewport-height", `${viewport.height}px`);
    window.scrollTo(0, 0);
  };
  viewport.addEventListener("resize", apply);
  apply();
}
