// What all figures share: the data, what is chosen, elements, numbers.
const data = JSON.parse(document.getElementById("data").textContent);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const one = (selector, within = document) => within.querySelector(selector);

const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};
const draw = (tag, attributes = {}, text = "") => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== "") element.textContent = text;
  return element;
};

// Numbers as the rest of the report has them: three digits that count, a prefix that fits (bench/report/quantity.py).
const number = (value, digits = 3) => {
  if (value === null || !isFinite(value)) return "–";
  if (value === 0) return "0";
  const rounded = Number(value.toPrecision(digits));
  const exponent = Math.floor(Math.log10(Math.abs(rounded)) + 1e-12);
  if (exponent < -4 || exponent >= 7) {
    const mantissa = (rounded / 10 ** exponent).toFixed(digits - 1).replace("-", "−");
    const power = String(exponent).replace(/[-0-9]/g, (sign) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(sign)]);
    return `${mantissa} × 10${power}`;
  }
  const places = Math.max(digits - 1 - exponent, 0);
  return rounded.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places }).replace("-", "−");
};
const prefixes = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"], [1e-12, "p"], [1e-15, "f"]];
const quantity = (value, unit) => {
  if (unit === "1" || unit === "") return number(value);
  if (unit === "ratio") return percent(value - 1, true);
  if (value === null || !isFinite(value)) return "–";
  const size = Math.abs(Number(value.toPrecision(3)));
  const found = prefixes.find(([scale]) => (unit !== "s" || scale <= 1) && size >= scale);
  return found ? `${number(value / found[0])} ${found[1]}${unit}` : `${number(value)} ${unit}`;
};
const percent = (ratio, signed = false) => {
  if (ratio === null || !isFinite(ratio)) return "–";
  const value = 100 * ratio;
  if (Math.abs(value) < 0.05) return "0.0 %";
  const text = value.toFixed(Math.abs(value) < 9.95 ? 1 : 0);
  return `${signed && value > 0 ? "+" : ""}${text} %`.replace("-", "−");
};

// What is chosen: strategies and GPU models that are shown, the trial that is kept. Figures follow.
const chosen = { strategies: new Set(data.strategies.map((each) => each.name)), gpus: new Set(data.gpus), kept: null, over: null };
const followers = [];
const changed = (what) => followers.forEach((follow) => follow(what));
const strategyOf = (trial) => data.strategies[data.trials.strategy[trial]];
const gpuOf = (trial) => data.gpus[data.trials.gpu[trial]];
const shown = (trial) => chosen.strategies.has(strategyOf(trial).name) && chosen.gpus.has(gpuOf(trial));
const has = (line) => (!line.strategy || chosen.strategies.has(line.strategy)) && (!line.gpu || chosen.gpus.has(line.gpu));
const keep = (trial) => { chosen.kept = trial; changed("kept"); };
const point_at = (trial) => { if (chosen.over !== trial) { chosen.over = trial; changed("over"); } };

// Marks, so that colour is never the only difference. Of a radius of about 5.
const marks = {
  o: "M5,0A5,5 0 1 1 -5,0A5,5 0 1 1 5,0Z",
  s: "M-4.4,-4.4H4.4V4.4H-4.4Z",
  "^": "M0,-5.4L5.2,4.2H-5.2Z",
  D: "M0,-5.8L5.8,0L0,5.8L-5.8,0Z",
  v: "M0,5.4L5.2,-4.2H-5.2Z",
  P: "M-1.8,-5.2H1.8V-1.8H5.2V1.8H1.8V5.2H-1.8V1.8H-5.2V-1.8H-1.8Z",
  X: "M-5,-2.9L-2.9,-5L0,-2.1L2.9,-5L5,-2.9L2.1,0L5,2.9L2.9,5L0,2.1L-2.9,5L-5,2.9L-2.1,0Z",
  "*": "M0,-6.2L1.6,-2.1L6,-1.9L2.6,0.9L3.7,5.1L0,2.7L-3.7,5.1L-2.6,0.9L-6,-1.9L-1.6,-2.1Z",
};
const colour = (strategy, estimated = false) => (estimated ? "var(--estimate)" : `var(--${strategy.role})`);
const swatch = (mark, shade, full = true, size = 1) => {
  const svg = draw("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" });
  svg.append(draw("path", { d: marks[mark], fill: full ? shade : "none", stroke: shade, "stroke-width": full ? 0 : 1.5, transform: `scale(${size})` }));
  return svg;
};
const dashes = ["", "7 4", "8 3 2 3", "2 3"];
const sample = (shade, pattern) => {
  const svg = draw("svg", { viewBox: "0 0 28 16", style: "width: 28px", "aria-hidden": "true" });
  svg.append(draw("path", { d: "M0,8H28", stroke: shade, "stroke-width": 2, "stroke-dasharray": pattern }));
  return svg;
};

// The tip follows the pointer, or stands beside what the keyboard is at.
const tip = document.getElementById("tip");
let said_at = 0;
const say = (lines, x, y) => {
  said_at = scrollY;
  tip.replaceChildren(...lines.filter(Boolean).map((line) => make("div", {}, line)));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const above = y + 18 + box.height > innerHeight;
  tip.style.left = `${Math.max(Math.min(x + 14, innerWidth - box.width - 8), 8)}px`;
  tip.style.top = `${Math.max(above ? y - box.height - 12 : y + 18, 4)}px`;
};
const hush = () => { tip.hidden = true; };

// A trial in words, from its row in the table.
const rows = all("#trials tbody tr").sort((a, b) => a.dataset.trial - b.dataset.trial);
const heads = all("#trials th").map((head) => head.textContent);
const cell = (trial, head) => rows[trial].cells[heads.indexOf(head)].textContent;
const words = (trial) => {
  const of = (head) => cell(trial, head);
  const devices = of("devices") === "1" ? "1 device" : `${of("devices")} devices`;
  const off = (head) => (of(head) === "–" ? "" : `, forecast ${of(head)} off`);
  return [
    `${of("trial")}, ${of("split")}`,
    `${of("strategy")} on ${devices}${data.gpus.length > 1 ? `, ${of("GPU")}` : ""}`,
    `${of("layers")} layers, width ${of("width")}, length ${of("length")}, batch ${of("batch")}, ${of("precision")}`,
    `duration ${of("duration")}${off("duration off")}`,
    `energy ${data.estimated ? "estimated " : ""}${of("energy")}${off("energy off")}`,
  ];
};
