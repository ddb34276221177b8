// Shares as bars: one for each group of like trials that is shown, above them that of the trial that is kept.
const part_shade = (bars, k) => (bars.estimated ? `fill: var(--estimate); opacity: ${1 - 0.12 * k}` : `fill: var(--part-${bars.parts[k][0]})`);

const stack = (figure, bars) => {
  const canvas = one(".canvas", figure);
  one(".legend", figure).replaceChildren(...bars.parts.map(([part, meaning], k) => {
    const box = make("i", { style: part_shade(bars, k).replace("fill", "background") });
    return make("span", { title: meaning }, box, part);
  }));
  const svg = draw("svg", { tabindex: 0, role: "application", "aria-roledescription": "figure", "aria-label": `${bars.alt}. Arrow keys go from bar to bar.` });
  canvas.replaceChildren(svg);
  let wide = 0, drawn = [], here = -1;

  const entries = () => {
    const groups = bars.groups.filter(has).map((group) => ({ label: group.label, note: `mean of ${group.count} trial${group.count > 1 ? "s" : ""}`, shares: group.shares }));
    const own = bars.trials[chosen.kept];
    return own ? [{ label: cell(chosen.kept, "trial"), note: "the trial that is kept", shares: own.map((each) => each / 1000) }, ...groups] : groups;
  };
  const redraw = (width = canvas.clientWidth) => {
    wide = width;
    if (!wide) return;
    drawn = entries();
    here = -1;
    const left = Math.min(Math.max(...drawn.map((entry) => width_of(entry.label)), 40) + 10, 0.45 * wide), right = wide - 14;
    const each = 25, height = drawn.length * each + 26;
    svg.setAttribute("viewBox", `0 0 ${wide} ${height}`);
    svg.replaceChildren();
    (wide < 480 ? [0, 50, 100] : [0, 25, 50, 75, 100]).forEach((tick) => {
      const x = left + ((right - left) * tick) / 100;
      svg.append(draw("line", { class: "grid", x1: x, x2: x, y1: 0, y2: height - 22 }));
      svg.append(draw("text", { x, y: height - 6, "text-anchor": tick === 100 ? "end" : "middle" }, `${tick} %`));
    });
    drawn.forEach((entry, k) => {
      const row = draw("g", { class: "row", "data-row": k });
      const most = Math.floor((left - 8) / 7), label = entry.label.length > most ? `${entry.label.slice(0, most - 1)}…` : entry.label;
      row.append(draw("text", { class: "name", x: left - 8, y: k * each + 16, "text-anchor": "end" }, label));
      row.append(draw("rect", { x: 0, y: k * each, width: wide, height: each, fill: "transparent" }));
      let from = left;
      entry.shares.forEach((share, part) => {
        const width = (right - left) * share;
        row.append(draw("rect", { class: "seg", x: from, y: k * each + 3, width, height: each - 7, style: part_shade(bars, part) }));
        from += width;
      });
      row.addEventListener("pointermove", (event) => tell(k, event.clientX, event.clientY));
      svg.append(row);
    });
  };
  const tell = (k, x, y) => {
    const entry = drawn[k];
    all(".row", svg).forEach((row, place) => row.classList.toggle("here", place === k));
    say([entry.label, entry.note, ...bars.parts.map(([part, meaning], place) => `${percent(entry.shares[place])} ${part}: ${meaning}`)], x, y);
  };
  const leave = () => { hush(); all(".row.here", svg).forEach((row) => row.classList.remove("here")); here = -1; };
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("blur", leave);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (!step || !drawn.length) return;
    event.preventDefault();
    here = (here + step + drawn.length) % drawn.length;
    const box = svg.getBoundingClientRect();
    tell(here, box.left + box.width / 2, box.top + here * 25 + 16);
  });
  followers.push((what) => { if (what === "filter" || what === "kept") redraw(wide); });
  return { redraw, width: () => canvas.clientWidth, stale: () => canvas.clientWidth !== wide };
};
