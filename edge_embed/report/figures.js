// What is drawn: the chart of score against a cost, and bars.

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { top: 26, right: 18, bottom: 44, left: 52 };
const RING = 11; // around the picked point
const SHADE = { fill: "var(--text)", opacity: 0.06 };
const EDGE = { stroke: "var(--accent)", "stroke-width": 2 };

/** An element; children that are strings become text, never markup. */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const pen = document.createElement("canvas").getContext("2d");

/** How wide a label is, as the style sheet writes it; a bold one is a little larger. */
function widthOf(text, bold = false) {
  pen.font = `${bold ? "700 13px" : "12px"} ${getComputedStyle(document.body).fontFamily}`;
  return pen.measureText(text).width;
}

/** A point's mark: the engine is told by the colour, the precision by the shape. */
function mark(engine, precision, x, y, size = 5.5) {
  const own = { class: `series-${engine}`, stroke: "currentColor", "stroke-width": 2 };
  if (precision === "int8") return svg("circle", { ...own, cx: x, cy: y, r: size, fill: "currentColor" });
  if (precision === "fp16") {
    const path = `M${x} ${y - size} L${x + size} ${y + size} L${x - size} ${y + size} Z`;
    return svg("path", { ...own, d: path, fill: "currentColor" });
  }
  const box = { x: x - size + 0.5, y: y - size + 0.5, width: 2 * size - 1, height: 2 * size - 1 };
  return svg("rect", { ...own, ...box, fill: "var(--surface)" });
}

function legend(kinds) {
  const marks = kinds.map(({ engine, precision }) =>
    el("span", {}, svg("svg", { width: 16, height: 16, "aria-hidden": "true" }, mark(engine, precision, 8, 8)),
      `${engine} ${precision}`));
  const line = svg("path", { d: "M0 8 H22", stroke: "var(--muted)", "stroke-width": 2 });
  const efficient = el("span", {}, svg("svg", { width: 22, height: 16, "aria-hidden": "true" }, line), "efficient");
  return [...marks, efficient];
}

/** Round numbers between two values, on a scale of logarithms: the finest series that gives no more than `most`. */
function logTicks(low, high, most) {
  const finest = [
    [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9], [1, 1.5, 2, 3, 4, 5, 7], [1, 2, 3, 5], [1, 2, 5], [1, 3], [1],
  ];
  let found = [];
  for (const series of finest) {
    found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const step of series) {
        const tick = Number((step * 10 ** power).toPrecision(3));
        if (tick >= low && tick <= high) found.push(tick);
      }
    }
    if (found.length <= most) break;
  }
  return found;
}

function linearTicks(low, high, most) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9) + (step / power === 2.5 ? 1 : 0));
  const ticks = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step / 1e6; tick += step) ticks.push(tick);
  return ticks.map((tick) => ({ tick, text: tick.toFixed(digits) }));
}

/** Find each label a place where it covers no other label, point or `reserved` box; the weightiest come first. */
function placeLabels(points, reserved, width, height) {
  const taken = reserved.concat(points.map(({ x, y, weight }) => {
    const size = weight > 1 ? RING : 6;
    return [x - size, y - size, x + size, y + size];
  }));
  const order = [...points].sort((a, b) => b.weight - a.weight);
  const placed = [];
  for (const point of order) {
    const ring = point.weight > 1 ? 5 : 0;
    const wide = widthOf(point.label, ring > 0) + 2;
    const spots = [
      [-9, -8, "end"], [0, -12, "middle"], [9, -8, "start"], [-11, 4, "end"], [11, 4, "start"],
      [9, 16, "start"], [0, 21, "middle"], [-9, 16, "end"],
    ];
    const boxes = spots.map(([across, down, anchor]) => {
      const [dx, dy] = [across + ring * Math.sign(across), down + ring * Math.sign(down - 4)];
      const left = point.x + dx - (anchor === "end" ? wide : anchor === "middle" ? wide / 2 : 0);
      return { dx, dy, anchor, box: [left, point.y + dy - 11, left + wide, point.y + dy + 3] };
    });
    const inside = ({ box: [left, top, right, bottom] }) =>
      left > MARGIN.left && right < width && top > 14 && bottom < height - MARGIN.bottom;
    const free = ({ box }) => taken.every((other) =>
      box[2] < other[0] || other[2] < box[0] || box[3] < other[1] || other[3] < box[1]);
    const spot = boxes.find((one) => inside(one) && free(one)) ?? (ring ? boxes.find(inside) : undefined);
    if (!spot) continue;
    taken.push(spot.box);
    placed.push({ ...point, ...spot });
  }
  return placed;
}

/**
 * Draw score against a cost, the cost on a scale of logarithms.
 *
 * `points`: {cost, score, label, engine, precision, weight, told}; weight 2 is the picked one, 1 an efficient one.
 * `limit` and `floor` may be null; `line`: costs and scores of the efficient ones.
 */
function drawScatter({ width, height, points, line, limit, floor, limitText, floorText, xText, yText, told }) {
  const costs = [...points.map((point) => point.cost), ...(limit === null ? [] : [limit])];
  const scores = [...points.map((point) => point.score), ...(floor === null ? [] : [floor])];
  const [low, high] = [Math.min(...costs) / 1.12, Math.max(...costs) * 1.12];
  const span = Math.max(...scores) - Math.min(...scores) || 0.1;
  const [least, most] = [Math.min(...scores) - 0.12 * span, Math.max(...scores) + 0.14 * span];
  const right = width - MARGIN.right, bottom = height - MARGIN.bottom;
  const atX = (cost) => MARGIN.left + (Math.log(cost / low) / Math.log(high / low)) * (right - MARGIN.left);
  const atY = (score) => bottom - ((score - least) / (most - least)) * (bottom - MARGIN.top);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": told });
  for (const tick of logTicks(low, high, Math.max(3, Math.floor(width / 75)))) {
    root.append(
      svg("line", { x1: atX(tick), x2: atX(tick), y1: MARGIN.top, y2: bottom, stroke: "var(--line)" }),
      svg("text", { x: atX(tick), y: bottom + 17, "text-anchor": "middle", class: "scale" }, String(tick)),
    );
  }
  for (const { tick, text } of linearTicks(least, most, Math.max(3, Math.floor(height / 70)))) {
    root.append(
      svg("line", { x1: MARGIN.left, x2: right, y1: atY(tick), y2: atY(tick), stroke: "var(--line)" }),
      svg("text", { x: MARGIN.left - 7, y: atY(tick) + 4, "text-anchor": "end", class: "scale" }, text),
    );
  }
  root.append(
    svg("text", { x: 4, y: 14, class: "axis" }, yText),
    svg("text", { x: right, y: height - 7, "text-anchor": "end", class: "axis" }, xText),
  );
  const reserved = [];
  if (limit !== null) root.append(...drawLimit(atX(limit), right, bottom, limitText, reserved));
  if (floor !== null) root.append(...drawFloor(atY(floor), right, bottom, floorText, reserved));
  const path = line.map(({ cost, score }, place) => `${place ? "L" : "M"}${atX(cost)} ${atY(score)}`).join(" ");
  root.append(svg("path", { d: path, fill: "none", stroke: "var(--muted)", "stroke-width": 2 }));
  const placed = points.map((point) => ({ ...point, x: atX(point.cost), y: atY(point.score) }));
  for (const { engine, precision, x, y, weight, told: words } of [...placed].sort((a, b) => a.weight - b.weight)) {
    const group = svg("g", { opacity: weight ? 1 : 0.75 }, svg("title", {}, words), mark(engine, precision, x, y));
    if (weight > 1) {
      group.setAttribute("data-picked", words);
      group.append(svg("circle", { cx: x, cy: y, r: RING, fill: "none", stroke: "var(--text)", "stroke-width": 2 }));
    }
    root.append(group);
  }
  for (const { x, y, dx, dy, anchor, label, weight } of placeLabels(placed, reserved, width, height)) {
    const place = { x: x + dx, y: y + dy, "text-anchor": anchor };
    const kind = weight > 1 ? "picked" : weight ? "efficient" : "other";
    root.append(svg("text", { ...place, class: `label ${kind}` }, label));
  }
  return root;
}

/** The limit's line and text; the text's box goes into `reserved`. */
function drawLimit(x, right, bottom, text, reserved) {
  const wide = widthOf(text, true) + 8;
  const after = x + wide < right;
  reserved.push([after ? x : x - wide, bottom - 22, after ? x + wide : x, bottom - 4]);
  const place = { x: after ? x + 6 : x - 6, y: bottom - 8, "text-anchor": after ? "start" : "end" };
  return [
    svg("rect", { ...SHADE, x, y: MARGIN.top, width: Math.max(0, right - x), height: bottom - MARGIN.top }),
    svg("line", { ...EDGE, x1: x, x2: x, y1: MARGIN.top, y2: bottom, "data-limit": "" }),
    svg("text", { ...place, class: "limit" }, text),
  ];
}

function drawFloor(y, right, bottom, text, reserved) {
  reserved.push([right - widthOf(text, true) - 8, y, right, y + 20]);
  return [
    svg("rect", { ...SHADE, x: MARGIN.left, y, width: right - MARGIN.left, height: Math.max(0, bottom - y) }),
    svg("line", { ...EDGE, x1: MARGIN.left, x2: right, y1: y, y2: y, "stroke-dasharray": "6 4", "data-floor": "" }),
    svg("text", { x: right - 4, y: y + 15, "text-anchor": "end", class: "limit" }, text),
  ];
}

/** Bars of one cost, a row a tier; all of them on one scale, whose end is `most`. */
function drawBars(title, rows, most) {
  const bars = rows.map(({ name, amount, text, picked }) => {
    const fill = el("div", { class: "fill" });
    fill.style.width = `${((amount ?? 0) / most) * 100}%`;
    const track = el("div", { class: "track" }, ...(amount === null ? [] : [fill]));
    return el("div", { class: picked ? "bar picked" : "bar" },
      el("span", { class: "name" }, name), track, el("span", { class: "amount" }, text));
  });
  return el("div", {}, el("h3", {}, title), ...bars);
}
