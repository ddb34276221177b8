"use strict";
// Hover or tap a mark for its trial, choose strategies, sort the table of trials. The page is whole without it.
(() => {
  const tips = JSON.parse(document.getElementById("tips").textContent);
  const tip = document.getElementById("tip");
  const all = (selector) => [...document.querySelectorAll(selector)];

  // One trial's marks, in every figure, and its row in the table.
  const of = (trial) => all(`[data-trial="${trial}"], [data-row="${trial}"]`);
  let shown = null;

  const hide = () => {
    if (shown !== null) of(shown).forEach((one) => one.classList.remove("here"));
    shown = null;
    tip.hidden = true;
  };

  const show = (event) => {
    const mark = event.target.closest && event.target.closest("[data-trial]");
    if (!mark) return hide();
    if (mark.dataset.trial !== shown) {
      hide();
      shown = mark.dataset.trial;
      of(shown).forEach((one) => one.classList.add("here"));
      tip.replaceChildren(...tips[shown].map((line) => {
        const row = document.createElement("div");
        row.textContent = line;
        return row;
      }));
      tip.hidden = false;
    }
    const box = tip.getBoundingClientRect();
    const left = Math.min(event.clientX + 14, innerWidth - box.width - 8);
    const above = event.clientY + 16 + box.height > innerHeight;
    tip.style.left = `${Math.max(left, 8)}px`;
    tip.style.top = `${above ? event.clientY - box.height - 10 : event.clientY + 16}px`;
  };
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  document.addEventListener("scroll", hide, { passive: true });

  const buttons = all("[data-filter]");
  const apply = () => {
    const chosen = new Set(buttons.filter((one) => one.ariaPressed === "true").map((one) => one.dataset.filter));
    all("[data-strategy]").forEach((one) => one.classList.toggle("off", !chosen.has(one.dataset.strategy)));
  };
  buttons.forEach((button) => button.addEventListener("click", () => {
    button.ariaPressed = button.ariaPressed === "true" ? "false" : "true";
    apply();
  }));

  // "1.20 kJ", "−3.1 %" and "12,300 s" sort as numbers, the rest as text.
  const scales = { P: 1e15, T: 1e12, G: 1e9, M: 1e6, k: 1e3, m: 1e-3, "µ": 1e-6, n: 1e-9, p: 1e-12 };
  const value = (text) => {
    const found = text.replace("−", "-").replace(/,/g, "").match(/^([+-]?[\d.]+)(?: ([PTGMkmµnp])(?=[A-Z]|s))?/);
    return found ? parseFloat(found[1]) * (scales[found[2]] || 1) : -Infinity;
  };
  all("#trials th").forEach((head, place) => head.addEventListener("click", () => {
    const up = head.ariaSort !== "ascending";
    all("#trials th").forEach((one) => { one.ariaSort = null; });
    head.ariaSort = up ? "ascending" : "descending";
    const body = document.querySelector("#trials tbody");
    const text = (row) => row.cells[place].textContent;
    const numeric = head.classList.contains("n");
    const order = (a, b) => (numeric ? value(text(a)) - value(text(b)) : text(a).localeCompare(text(b)));
    body.append(...[...body.rows].sort((a, b) => (up ? order(a, b) : order(b, a))));
  }));
})();
