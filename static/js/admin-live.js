// What a page marks as live is read again every few seconds while somebody looks at it.

const EVERY_MS = 5000;
const LONGEST_MS = 10_000;

async function refresh() {
  const parts = document.querySelectorAll("[data-live]");
  if (document.hidden || parts.length === 0) return;
  const response = await fetch(window.location.href, {
    signal: AbortSignal.timeout(LONGEST_MS),
    headers: { accept: "text/html" },
  });
  if (!response.ok || response.redirected) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html").querySelectorAll("[data-live]");
  if (fresh.length !== parts.length) return;
  parts.forEach((part, place) => {
    // Who selects text or has the focus inside is not disturbed.
    const selection = window.getSelection();
    const isUsed = part.contains(document.activeElement) || (selection?.type === "Range" && selection.containsNode(part, true));
    const next = fresh[place];
    if (!isUsed && next && next.innerHTML !== part.innerHTML) part.replaceChildren(...next.childNodes);
  });
}

function again() {
  window.setTimeout(() => refresh().catch(() => {}).finally(again), EVERY_MS);
}

again();
