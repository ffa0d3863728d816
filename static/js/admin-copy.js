// Buttons that copy the text of the element that they name, and forms that ask before they are sent.

document.addEventListener("click", (event) => {
  const button = event.target instanceof Element ? event.target.closest("button[data-copy]") : null;
  if (!(button instanceof HTMLButtonElement)) return;
  const source = document.getElementById(button.dataset.copy ?? "");
  if (!source) return;
  const label = button.textContent ?? "";
  const tell = (/** @type {string} */ text) => {
    button.textContent = text;
    window.setTimeout(() => (button.textContent = label), 1500);
  };
  navigator.clipboard.writeText(source.textContent ?? "").then(
    () => tell("Copied"),
    () => {
      // Without the permission (or on plain http): select it, so that one key press copies.
      window.getSelection()?.selectAllChildren(source);
      tell("Selected: press Ctrl+C");
    },
  );
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  const question = form instanceof HTMLFormElement ? form.dataset.ask : undefined;
  if (question && !window.confirm(question)) event.preventDefault();
});
