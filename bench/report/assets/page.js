// The page: figures, filters, theme, tables.
const figures = [
  ...data.charts.map((chart) => scatter(document.getElementById(chart.name), chart)),
  ...data.bars.map((bars) => stack(document.getElementById(bars.name), bars)),
];
const view = trial_view();
figures.push(view);

// Strategies and GPU models: each button shows or hides its own.
all(".filter button[data-strategy], .filter button[data-gpu]").forEach((button) => {
  const { strategy, gpu } = button.dataset, set = strategy ? chosen.strategies : chosen.gpus, name = strategy ?? gpu;
  const own = data.strategies.find((each) => each.name === strategy);
  if (own) button.prepend(swatch(own.mark, colour(own)));
  button.addEventListener("click", () => {
    if (!set.delete(name)) set.add(name);
    changed("filter");
  });
  followers.push((what) => { if (what === "filter") button.ariaPressed = String(set.has(name)); });
});
const everything = document.getElementById("everything");
everything.addEventListener("click", () => {
  data.strategies.forEach((each) => chosen.strategies.add(each.name));
  data.gpus.forEach((each) => chosen.gpus.add(each));
  changed("filter");
});

// The table of trials follows, and leads.
const kept = document.getElementById("kept");
const count = () => {
  const visible = rows.filter((_, trial) => shown(trial)).length;
  everything.hidden = visible === rows.length;
  document.getElementById("count").textContent = `${visible} of ${rows.length} trials shown`;
};
rows.forEach((row, trial) => {
  row.addEventListener("click", () => keep(trial));
  row.addEventListener("pointerenter", () => point_at(trial));
  row.addEventListener("pointerleave", () => point_at(null));
});
one("#trials tbody")?.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || !event.target.matches(".pick")) return;
  event.preventDefault();
  const visible = all("#trials tbody tr:not(.off) .pick"), next = visible[visible.indexOf(event.target) + step];
  if (!next) return;
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});
let lit = [];
followers.push((what) => {
  if (what === "filter") {
    rows.forEach((row, trial) => row.classList.toggle("off", !shown(trial)));
    const picks = all("#trials tbody tr:not(.off) .pick");
    if (picks.length && !picks.some((pick) => pick.tabIndex === 0)) picks[0].tabIndex = 0;
    count();
  }
  lit.forEach((row) => row.classList.remove("here"));
  lit = [chosen.kept, chosen.over].filter((trial) => trial !== null).map((trial) => rows[trial]);
  lit.forEach((row) => row.classList.add("here"));
  kept.hidden = chosen.kept === null;
  if (chosen.kept !== null) one("a", kept).textContent = `trial ${cell(chosen.kept, "trial")}`;
});
one("button", kept).addEventListener("click", () => keep(null));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  hush();
  point_at(null);
  if (chosen.kept !== null) keep(null);
});
// The tip stands where the page was: a scroll that had ended before, as a focus brings one, leaves it.
document.addEventListener("scroll", () => { if (Math.abs(scrollY - said_at) > 1) hush(); }, { passive: true });

// "1.20 kJ", "−3.1 %", "× 1.4" and "12,300 s" sort as numbers, the rest as text; what is missing goes last.
const scales = { P: 1e15, T: 1e12, G: 1e9, M: 1e6, k: 1e3, m: 1e-3, "µ": 1e-6, n: 1e-9, p: 1e-12, f: 1e-15 };
const powers = (text) => text.replace(/ × 10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)/, (_, raised) => `e${raised.replace(/./g, (sign) => "-0123456789"["⁻⁰¹²³⁴⁵⁶⁷⁸⁹".indexOf(sign)])}`);
const value = (text) => {
  const found = powers(text).replace(/−/g, "-").replace(/,/g, "").match(/^(?:× )?([+-]?[\d.]+(?:e-?\d+)?)(?: ([PTGMkmµnpf])(?=[A-Z]|s))?/);
  return found ? parseFloat(found[1]) * (scales[found[2]] || 1) : NaN;
};
all("table.sortable").forEach((table) => {
  all("th button", table).forEach((button, place) => button.addEventListener("click", () => {
    const head = button.parentElement, up = head.ariaSort !== "ascending", sign = up ? 1 : -1;
    all("th", table).forEach((each) => { each.ariaSort = null; });
    head.ariaSort = up ? "ascending" : "descending";
    const body = one("tbody", table), text = (row) => row.cells[place].textContent;
    const keys = new Map([...body.rows].map((row) => [row, head.classList.contains("n") ? value(text(row)) : text(row)]));
    const order = (a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      if (typeof x === "string") return sign * x.localeCompare(y);
      return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) : sign * (x - y);
    };
    body.append(...[...body.rows].sort(order));
  }));
});

// The theme: the system's, or the reader's own, which the browser remembers where it may.
const theme = document.getElementById("theme");
const remembered = (() => { try { return localStorage.getItem("joulelaw-theme") ?? ""; } catch { return ""; } })();
const dress = (name) => {
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
};
theme.value = remembered;
dress(remembered);
theme.addEventListener("change", () => {
  dress(theme.value);
  try { localStorage.setItem("joulelaw-theme", theme.value); } catch { /* a page from a file may not */ }
});

// Widths are asked for before anything is drawn: after each drawing the browser would lay the whole page out again.
const draw_all = (some) => some.map((figure) => [figure, figure.width()]).forEach(([figure, width]) => figure.redraw(width));
draw_all(figures);
changed("filter");
view.start();
let waiting = 0;
new ResizeObserver(() => {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => draw_all(figures.filter((figure) => figure.stale())));
}).observe(document.getElementById("main"));
window.joulelaw = { number, quantity, percent, value }; // for tests
