// One trial over time: the power of its devices, and how long its steps took.
const round_ticks = (low, high, count, text) => {
  const raw = (high - low) / count, base = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].find((each) => each * base >= raw) * base;
  const ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high * (1 + 1e-9); k += 1) ticks.push([k * step, text(Number((k * step).toPrecision(6)))]);
  return ticks;
};
const plain = (value, unit) => quantity(value, unit).replace(/\.0+(?= )/, "").replace(/(\.\d*?)0+(?= )/, "$1");

// Series of {name, x, y, steps} over seconds; the pointer, or arrow keys, read them off.
const plot = (figure, label, unit, alt) => {
  const canvas = one(".canvas", figure);
  let series = [], window_s = 0, wide = 0, nothing = "", px, inner, hair, at = 0;
  const estimated = figure.classList.contains("estimated");
  const shade = (k) => (estimated ? "var(--estimate)" : `var(--series-${k % 8})`);
  const pattern = (k) => dashes[(estimated ? k : Math.floor(k / 8)) % 4];
  const redraw = (width = canvas.clientWidth) => {
    wide = width;
    one(".legend", figure).replaceChildren();
    if (!wide || !series.length) return canvas.replaceChildren(make("p", { class: "empty" }, nothing));
    const svg = draw("svg", { tabindex: 0, role: "application", "aria-roledescription": "figure", "aria-label": `${alt}. Arrow keys read it off.` });
    canvas.replaceChildren(svg);
    const box = { width: wide, height: Math.max(Math.min(0.5 * wide, 300), 220) };
    svg.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
    const xs = series.flatMap((each) => each.x), low = Math.min(0, ...xs), high = Math.max(window_s, ...xs);
    const sorted = series.flatMap((each) => each.y).sort((a, b) => a - b);
    // A first step may be ten times as long as the others: it is cut off, and the pointer still tells it.
    const top = unit === "s" ? Math.min(sorted[sorted.length - 1] * 1.1, 2.5 * sorted[Math.floor(0.9 * (sorted.length - 1))]) : sorted[sorted.length - 1] * 1.15;
    const x = { label: "seconds since the measured window began", unit: "s", log: false, low, high, ticks: round_ticks(low, high, 6, (value) => number(value).replace(/\.0+$/, "").replace(/(\.\d*?)0+$/, "$1")) };
    const y = { label, unit, log: false, low: 0, high: top || 1, ticks: round_ticks(0, top || 1, 4, (value) => (value ? plain(value, unit) : "0")) };
    const places = frame(svg, box, x, y);
    ({ px, inner } = places);
    const clip = `clip-${figure.id}`;
    const clipping = draw("clipPath", { id: clip });
    clipping.append(draw("rect", { x: inner.left, y: inner.top - 4, width: inner.right - inner.left, height: inner.bottom - inner.top + 4 }));
    svg.append(clipping);
    svg.prepend(draw("rect", { class: "span", x: px(0), y: inner.top, width: Math.max(px(window_s) - px(0), 0), height: inner.bottom - inner.top }));
    series.forEach((each, k) => {
      const { py } = places;
      const d = each.steps
        ? each.y.map((value, j) => `${j ? "L" : "M"}${px(each.x[j] - each.steps).toFixed(1)},${py(value).toFixed(1)}H${px(each.x[j]).toFixed(1)}`).join("")
        : path(each.x, each.y, px, py);
      svg.append(draw("path", { class: "trace", d, stroke: shade(k), "stroke-dasharray": pattern(k), "clip-path": `url(#${clip})` }));
      if (!each.steps) each.x.forEach((value, j) => svg.append(draw("circle", { cx: px(value), cy: py(each.y[j]), r: 2.4, fill: shade(k), "clip-path": `url(#${clip})` })));
    });
    if (series.length > 1) one(".legend", figure).replaceChildren(...series.map((each, k) => make("span", {}, sample(shade(k), pattern(k)), each.name)));
    hair = draw("line", { class: "hair off", y1: inner.top, y2: inner.bottom });
    svg.append(hair);
    const read = (seconds, clientX, clientY) => {
      hair.classList.remove("off");
      hair.setAttribute("x1", px(seconds));
      hair.setAttribute("x2", px(seconds));
      const values = series.slice(0, 16).map((each) => {
        const k = each.x.findIndex((end) => end >= seconds - 1e-9);
        return `${each.name ? `${each.name}: ` : ""}${quantity(each.y[k < 0 ? each.y.length - 1 : k], unit)}`;
      });
      say([`${number(seconds)} s`, ...values], clientX, clientY);
    };
    svg.addEventListener("pointermove", (event) => {
      const share = (event.clientX - svg.getBoundingClientRect().left - inner.left) / (inner.right - inner.left);
      if (share < 0 || share > 1) { hair.classList.add("off"); return hush(); }
      return read(low + share * (high - low), event.clientX, event.clientY);
    });
    const leave = () => { hush(); hair.classList.add("off"); };
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("blur", leave);
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const marks_s = series[0].x;
      at = (at + step + marks_s.length) % marks_s.length;
      const place = svg.getBoundingClientRect();
      read(marks_s[at], place.left + px(marks_s[at]), place.top + inner.top + 30);
    });
  };
  return {
    redraw,
    width: () => canvas.clientWidth,
    stale: () => canvas.clientWidth !== wide,
    set: (lines, seconds, why) => { series = lines; window_s = seconds; nothing = why; at = 0; redraw(wide); },
  };
};

const trial_view = () => {
  const power = plot(document.getElementById("power"), data.estimated ? "estimated power" : "power", "W", "Power of one trial's devices over time");
  const steps = plot(document.getElementById("steps"), "seconds of a step", "s", "Step times of one trial over time");
  const list = document.getElementById("trial");
  const followed = () => all("option", list).map((option) => Number(option.value));
  const fill = () => {
    const visible = data.listed.filter(shown), now = current();
    list.replaceChildren(...visible.map((trial) => make("option", { value: trial }, `${cell(trial, "trial")}: ${cell(trial, "strategy")} on ${cell(trial, "devices")}`)));
    if (visible.includes(now)) list.value = now;
    else list.selectedIndex = -1;
  };
  const current = () => chosen.kept ?? data.chosen;
  const show = () => {
    const trial = current();
    list.value = trial ?? "";
    if (trial === null) return;
    const trace = data.traces[trial] ?? { devices: [], steps: { end_s: [], s: [] }, window_s: 0 };
    const lines = trace.devices.map((device, k) => ({
      name: trace.devices.length > 1 ? `device ${k}` : "", steps: device.every_s,
      x: device.dw.map((_, j) => device.begin_s + (j + 1) * device.every_s), y: device.dw.map((tenths) => tenths / 10),
    }));
    power.set(lines, trace.window_s, "No readings of this trial: it was imported, failed, or read nothing.");
    steps.set(trace.steps.s.length ? [{ name: "", x: trace.steps.end_s, y: trace.steps.s }] : [], trace.window_s, "No steps of this trial were recorded.");
    const facts = heads.map((head) => [head, cell(trial, head)]);
    document.getElementById("told").replaceChildren(...facts.map(([what, value]) => make("div", {}, make("dt", {}, what), make("dd", {}, value))));
  };
  list.addEventListener("change", () => keep(Number(list.value)));
  for (const [id, step] of [["before", -1], ["after", 1]]) {
    document.getElementById(id).addEventListener("click", () => {
      const trials = followed(), from = trials.indexOf(current());
      if (trials.length) keep(trials[(from + step + trials.length) % trials.length]);
    });
  }
  followers.push((what) => {
    if (what === "filter") fill();
    if (what === "kept") show();
  });
  return { redraw: (width) => { power.redraw(width); steps.redraw(width); }, width: power.width, stale: () => power.stale() || steps.stale(), start: () => { fill(); show(); } };
};
