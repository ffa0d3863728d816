// The form of a rule shows what matters for the chosen target and time; without this script it shows everything.

/** @type {Record<string, (values: {target: string, when: string, batched: boolean, shadow: boolean}) => boolean>} */
const NEEDED = {
  url: () => true,
  function: (rule) => rule.target === "lambda",
  invocation: (rule) => rule.target === "lambda",
  region: (rule) => rule.target !== "http",
  role: (rule) => rule.target !== "http",
  access_key_id: (rule) => rule.target !== "http",
  forget_credentials: (rule) => rule.target !== "http",
  batch_events: (rule) => rule.batched,
  ordered: (rule) => rule.when === "after",
  budget_seconds: (rule) => rule.when === "before",
  at_deadline: (rule) => rule.when === "before",
  at_deadline_new: (rule) => rule.when === "before",
  late: (rule) => rule.when === "before",
  cache_seconds: (rule) => rule.when === "before",
  shadow_of: (rule) => rule.when === "before",
  stands_in: (rule) => rule.when === "before" && rule.shadow,
};

const valueOf = (/** @type {string} */ name) => {
  const field = document.getElementById(`id_${name}`);
  return field instanceof HTMLSelectElement || field instanceof HTMLInputElement ? field : null;
};

function arrange() {
  const batched = valueOf("batched");
  const rule = {
    target: valueOf("target")?.value ?? "",
    when: valueOf("when")?.value ?? "",
    batched: batched instanceof HTMLInputElement && batched.checked,
    shadow: Boolean(valueOf("shadow_of")?.value),
  };
  for (const [name, isNeeded] of Object.entries(NEEDED)) {
    const row = document.querySelector(`.form-row.field-${name}`);
    // What was refused stays in sight.
    if (row) row.classList.toggle("not-needed", !isNeeded(rule) && !row.querySelector(".errorlist"));
  }
  for (const group of document.querySelectorAll(".rule-form fieldset.module")) {
    const rows = [...group.querySelectorAll(".form-row")];
    group.classList.toggle("not-needed", rows.length > 0 && rows.every((row) => row.classList.contains("not-needed")));
  }
}

document.addEventListener("change", arrange);
arrange();
