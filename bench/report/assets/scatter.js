// A scatter of trials with lines: hover or arrow keys for a trial, a click or Enter keeps it.
const scale = (axis, from, to) => {
  const of = axis.log ? Math.log : (value) => value;
  const low = of(axis.low), span = of(axis.high) - low;
  return (value) => from + ((of(value) - low) / span) * (to - from);
};
const width_of = (text) => 7.3 * text.length;

// Ticks that do not overlap, at least so many pixels apart.
const spaced = (ticks, at, room) => {
  let last = -Infinity;
  return ticks.filter(([value, text]) => {
    const here = at(value), half = room(text) / 2;
    if (here - half < last) return false;
    last = here + half + 6;
    return true;
  });
};

// The frame of a plot: returns the places of values, having drawn grid, ticks and labels into the svg.
const frame = (svg, box, x, y) => {
  const left = Math.max(...y.ticks.map(([, text]) => width_of(text)), 20) + 8;
  const inner = { left, right: box.width - 10, top: 24, bottom: box.height - 42 };
  const px = scale(x, inner.left, inner.right), py = scale(y, inner.bottom, inner.top);
  for (const [value, text] of spaced(x.ticks, px, width_of)) {
    if (x.log || x.unit === "s") svg.append(draw("line", { class: "grid", x1: px(value), x2: px(value), y1: inner.top, y2: inner.bottom }));
    svg.append(draw("text", { x: px(value), y: inner.bottom + 17, "text-anchor": "middle" }, text));
  }
  for (const [value, text] of spaced([...y.ticks].reverse(), py, () => 12)) {
    svg.append(draw("line", { class: "grid", x1: inner.left, x2: inner.right, y1: py(value), y2: py(value) }));
    svg.append(draw("text", { x: inner.left - 7, y: py(value) + 4, "text-anchor": "end" }, text));
  }
  svg.append(draw("path", { class: "edge", d: `M${inner.left},${inner.top}V${inner.bottom}H${inner.right}` }));
  svg.append(draw("text", { class: "name", x: 0, y: 12 }, y.label));
  svg.append(draw("text", { class: "name", x: inner.right, y: inner.bottom + 35, "text-anchor": "end" }, x.label));
  return { px, py, inner };
};

const path = (xs, ys, px, py) => xs.map((x, k) => `${k ? "L" : "M"}${px(x).toFixed(1)},${py(ys[k]).toFixed(1)}`).join("");

const legend_of = (chart) => {
  const used = [...new Set(chart.points.trial.map((trial) => data.trials.strategy[trial]))].sort((a, b) => a - b);
  const entries = used.map((k) => make("span", {}, swatch(data.strategies[k].mark, colour(data.strategies[k], chart.estimated)), data.strategies[k].name));
  if (chart.splits) {
    entries.push(make("span", {}, swatch("o", "var(--muted)", false, 0.8), "fitted"), make("span", {}, swatch("o", "var(--muted)"), "held out"));
  }
  const models = [...new Map(chart.lines.filter((line) => line.strategy).map((line) => [line.gpu, line.dash]))];
  if (models.length > 1) entries.push(...models.map(([gpu, dash]) => make("span", {}, sample("var(--muted)", dashes[dash]), data.short[gpu])));
  return entries;
};
const guides_of = (chart) => chart.lines.filter((line) => line.label && !line.strategy)
  .map((line) => [line, make("span", {}, sample("var(--muted)", dashes[line.dash]), line.label)]);

const scatter = (figure, chart) => {
  const canvas = one(".canvas", figure), live = one(".live", figure), points = chart.points;
  const guides = guides_of(chart);
  one(".legend", figure).replaceChildren(...legend_of(chart), ...guides.map(([, entry]) => entry));
  const svg = draw("svg", { tabindex: 0, role: "application", "aria-roledescription": "figure", "aria-label": `${chart.alt}. Arrow keys go from trial to trial, Enter keeps one.` });
  canvas.replaceChildren(svg);
  const order = points.trial.map((_, k) => k).sort((a, b) => points.held[a] - points.held[b]);
  const place = new Map(points.trial.map((trial, k) => [trial, k]));
  let at = [], nodes = [], lines = [], rings = {}, wide = 0;

  const redraw = (width = canvas.clientWidth) => {
    wide = width;
    if (!wide) return;
    const box = { width: wide, height: chart.square ? Math.min(Math.max(wide, 320), 470) : Math.max(Math.min(0.7 * wide, 400), 300) };
    svg.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
    svg.replaceChildren();
    const { px, py } = frame(svg, box, chart.x, chart.y);
    lines = chart.lines.map((line) => {
      const look = { d: path(line.x, line.y, px, py), "stroke-dasharray": dashes[line.dash], class: line.strategy ? "mean" : "guide" };
      if (line.strategy) look.stroke = colour(data.strategies.find((each) => each.name === line.strategy), chart.estimated);
      const node = draw("path", look);
      svg.append(node);
      return node;
    });
    at = points.trial.map((_, k) => [px(points.x[k]), py(points.y[k])]);
    const small = points.trial.length > 300 ? 0.75 : 1;
    nodes = [];
    for (const k of order) {
      const trial = points.trial[k], strategy = strategyOf(trial), shade = colour(strategy, chart.estimated), full = !chart.splits || points.held[k];
      const size = (full ? 0.95 : 0.8) * small, own = { "data-trial": trial, class: "point" };
      const look = { d: marks[strategy.mark], transform: `translate(${at[k][0].toFixed(1)},${at[k][1].toFixed(1)}) scale(${size})` };
      Object.assign(look, { fill: full ? shade : "none", stroke: full ? "var(--surface)" : shade, "stroke-width": full ? 0.8 : 1.4 });
      if (points.held[k] && points.low.length && points.low[k] !== null) {
        nodes[k] = draw("g", own);
        nodes[k].append(draw("line", { x1: at[k][0], x2: at[k][0], y1: py(points.low[k]), y2: py(points.high[k]), stroke: shade, "stroke-width": 1.2, opacity: 0.5 }), draw("path", look));
      } else nodes[k] = draw("path", { ...look, ...own });
      svg.append(nodes[k]);
    }
    rings = { over: draw("circle", { class: "ring off", r: 8.5 }), kept: draw("circle", { class: "ring kept off", r: 9.5 }) };
    svg.append(rings.over, rings.kept);
    follow("filter");
    follow("over");
    follow("kept");
  };

  const follow = (what) => {
    if (!nodes.length && !lines.length) return;
    if (what === "filter") {
      nodes.forEach((node, k) => node.classList.toggle("off", !shown(points.trial[k])));
      lines.forEach((node, k) => node.classList.toggle("off", !has(chart.lines[k])));
      guides.forEach(([line, entry]) => entry.classList.toggle("off", !has(line)));
      tell();
    }
    for (const which of ["over", "kept"]) {
      const k = place.get(chosen[which]), here = k !== undefined && shown(chosen[which]);
      rings[which].classList.toggle("off", !here);
      if (here) { rings[which].setAttribute("cx", at[k][0]); rings[which].setAttribute("cy", at[k][1]); }
    }
  };

  // Of measured against predicted, the error of what is shown.
  const tell = () => {
    if (!chart.square) return;
    const held = order.filter((k) => points.held[k] && shown(points.trial[k]));
    const off = held.reduce((sum, k) => sum + Math.abs(points.y[k] / points.x[k] - 1), 0) / held.length;
    live.textContent = held.length ? `Shown: ${held.length} held-out trial${held.length > 1 ? "s" : ""}, mean absolute error ${percent(off).replace(" ", "\u00a0")}` : "Shown: no held-out trial";
  };

  const tell_of = (k, x, y) => {
    const own = [[chart.x, points.x[k]], [chart.y, points.y[k]]].filter(([axis]) => axis.unit !== "1" || axis.label.includes("="));
    say([...words(points.trial[k]), ...own.map(([axis, value]) => `${axis.label}: ${quantity(value, axis.unit)}`)], x, y);
  };
  const nearest = (event) => {
    const box = svg.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let best = null, least = 22 ** 2;
    for (const k of order) {
      const away = (at[k][0] - x) ** 2 + (at[k][1] - y) ** 2;
      if (away <= least && shown(points.trial[k])) { best = k; least = away; }
    }
    return best;
  };
  svg.addEventListener("pointermove", (event) => {
    const k = nearest(event);
    svg.style.cursor = k === null ? "" : "pointer";
    if (k === null) { hush(); return point_at(null); }
    point_at(points.trial[k]);
    tell_of(k, event.clientX, event.clientY);
  });
  svg.addEventListener("pointerleave", () => { hush(); point_at(null); });
  svg.addEventListener("click", (event) => {
    const k = nearest(event);
    if (k !== null) { keep(points.trial[k]); tell_of(k, event.clientX, event.clientY); }
  });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (step) {
      event.preventDefault();
      const along = order.filter((k) => shown(points.trial[k])).sort((a, b) => points.x[a] - points.x[b]);
      if (!along.length) return;
      const from = along.indexOf(place.get(chosen.over ?? chosen.kept));
      const k = along[from < 0 ? 0 : (from + step + along.length) % along.length];
      point_at(points.trial[k]);
      const box = svg.getBoundingClientRect();
      tell_of(k, box.left + at[k][0], box.top + at[k][1]);
    } else if (event.key === "Enter" && chosen.over !== null) keep(chosen.over);
  });
  svg.addEventListener("blur", () => { hush(); point_at(null); });
  followers.push(follow);
  return { redraw, width: () => canvas.clientWidth, stale: () => canvas.clientWidth !== wide };
};
