// What is asked, what the policy chose for it, and all that follows from that.

const report = JSON.parse(document.getElementById("content").textContent);
const at = (id) => document.getElementById(id);
const NONE = -1;
const PRINT_WIDTH = 700;

const state = {
  tokens: report.views[0].tokens, threads: null, latency: null, energy: null, quality: null, power: "mains", kind: null,
};

const viewNow = () => report.views.find((view) => view.tokens === state.tokens && view.threads === state.threads);
const tiers = report.bundle.tiers.map((tier) => tier.name);
/** A limit as the policy writes it: Python's %g. */
const plain = (limit) => String(Number(limit.toPrecision(6)));

/** Where a limit stands among those of a view; of a limit from another view the one next below it. */
function placeOf(limits, wanted) {
  if (wanted === null) return limits.indexOf(null);
  const below = limits.map((limit, place) => [limit, place]).filter(([limit]) => limit !== null && limit <= wanted);
  return below.length ? below[below.length - 1][1] : Math.max(0, limits.findIndex((limit) => limit !== null));
}

/** What the policy chose under the limits of the state: {row, because, reasons}. */
function outcomeOf(view, { latency, energy, quality, power }) {
  const { choices } = view;
  const places = [
    [choices.latency_ms, placeOf(choices.latency_ms, latency)],
    [choices.energy_mj, placeOf(choices.energy_mj, energy)],
    [choices.min_quality, placeOf(choices.min_quality, quality)],
    [choices.power, choices.power.indexOf(power)],
  ];
  const place = places.reduce((sum, [limits, one]) => sum * limits.length + one, 0);
  const [row, because, ...reasons] = choices.outcomes[choices.index[place]];
  const limits = { latency_ms: latency, energy_mj: energy, min_quality: quality };
  const filled = (text) => text.replace(/\{(\w+)\}/g, (_, name) => plain(limits[name]));
  const write = (text) => (text === NONE ? null : filled(choices.texts[text]));
  return { row, because: write(because), reasons: reasons.map(write) };
}

function setSlider(id, limits, wanted, words) {
  const slider = at(id);
  const place = placeOf(limits, wanted);
  slider.max = String(limits.length - 1);
  slider.value = String(place);
  slider.setAttribute("aria-valuetext", words(limits[place]));
  at(`${id}-value`).textContent = words(limits[place]);
}

const latencyWords = (limit) => (limit === null ? "no limit" : `${plain(limit)} ms`);
const energyWords = (limit) => (limit === null ? "no limit" : `${plain(limit)} mJ`);
const qualityWords = (floor) => (floor === null ? "none" : `at least ${plain(floor)}`);

function fillSelect(select, values, words, chosen) {
  select.replaceChildren(...values.map((value) => el("option", { value }, words(value))));
  select.value = chosen;
}

/** Bring the state into what this view has, and the controls in line with the state. */
function settle() {
  const here = report.views.filter((view) => view.tokens === state.tokens).map((view) => view.threads);
  if (!here.includes(state.threads)) state.threads = here[here.length - 1];
  const view = viewNow();
  for (const [name, limits] of Object.entries({
    latency: view.choices.latency_ms, energy: view.choices.energy_mj, quality: view.choices.min_quality,
  })) state[name] = limits[placeOf(limits, state[name])];
  const lengths = [...new Set(report.views.map((one) => one.tokens))];
  fillSelect(at("tokens"), lengths, (tokens) => many(tokens, "token"), state.tokens);
  fillSelect(at("threads"), here, (threads) => many(threads, "thread"), state.threads);
  setSlider("latency", view.choices.latency_ms, state.latency, latencyWords);
  setSlider("energy", view.choices.energy_mj, state.energy, energyWords);
  setSlider("quality", view.choices.min_quality, state.quality, qualityWords);
  at("energy-field").hidden = view.choices.energy_mj.length === 1;
  at("quality-field").hidden = view.choices.min_quality.length === 1;
  at("saving-hint").hidden = state.power !== "battery" || state.quality !== null;
}

function showResult(view, outcome) {
  const row = view.rows[outcome.row];
  const parts = [el("p", { class: "what" }, "The policy takes")];
  if (row) {
    const facts = [
      ["score", row.quality, (score) => score.toFixed(4)],
      ["time, p90", row.p90_ms, (ms) => withUnit(ms, "ms")],
      ["energy", row.energy_mj, (mj) => withUnit(mj, "mJ")],
      ["peak memory", row.peak_mb, (mb) => withUnit(mb, "MB")],
      ["first vector", row.first_ms, (ms) => withUnit(ms, "ms")],
      ["texts/s in bulk", row.texts_per_s, figure],
      ["on disk", row.size_bytes, (bytes) => `${megabytes(bytes)} MB`],
    ].filter(([, value]) => value !== null).slice(0, 6)
      .map(([name, value, write]) => el("div", {}, el("dt", {}, name), el("dd", {}, write(value))));
    const size = `${many(row.layers, "layer")}, ${many(row.dim, "dimension")}, ${kindOf(row)}`;
    parts.push(el("p", { class: "who", id: "picked" }, row.tier), el("p", { id: "picked-kind" }, size),
      el("dl", { class: "figures" }, ...facts));
  } else parts.push(el("p", { class: "who", id: "picked" }, "No tier"));
  parts.push(el("p", { id: "because" }, outcome.because));
  const others = tiers.map((name, place) => [name, outcome.reasons[place]]).filter(([, reason]) => reason !== null);
  if (others.length) {
    const lines = others.map(([name, reason]) => el("li", {}, el("b", {}, name), el("span", {}, reason)));
    const title = row ? "Why not the others" : "What each falls short of";
    parts.push(el("h3", {}, title), el("ul", { id: "why-not" }, ...lines));
  }
  at("result").classList.toggle("none", !row);
  at("result").replaceChildren(...parts);
  at("spoken").textContent = row ? `${row.tier}, ${kindOf(row)}` : "No tier";
}

function showChart(name, view, picked, { of, line, limit, limitText, unit, costText }) {
  const points = view.rows.map((row, place) => ({
    cost: of(row), score: row.quality, label: row.tier, engine: row.engine, precision: row.precision,
    weight: place === picked ? 2 : line.includes(place) ? 1 : 0,
    told: `${row.tier}, ${kindOf(row)}: ${scoreAnd(row.quality, withUnit(of(row), unit))}`,
  })).filter(({ cost, score }) => cost > 0 && score !== null);
  at(`${name}-figure`).hidden = points.length === 0 && name === "energy";
  at(`${name}-figure`).querySelector(".legend").hidden = points.length === 0;
  const plot = at(`${name}-plot`);
  if (!points.length) {
    const why = "Nothing to draw: the bundle has no scores. Export it with scored pairs.";
    plot.replaceChildren(el("p", { class: "hint" }, why));
    return;
  }
  const width = Math.max(280, printing ? PRINT_WIDTH : plot.clientWidth);
  const alone = view.by_energy.length === 0;
  const efficient = line.map((place) => view.rows[place]).filter((row) => of(row) > 0);
  plot.replaceChildren(drawScatter({
    width, height: width < 500 ? 330 : alone ? 470 : 350, points,
    line: efficient.map((row) => ({ cost: of(row), score: row.quality })),
    limit, limitText, floor: state.quality, floorText: `score ${qualityWords(state.quality)}`,
    xText: `${costText} (log scale)`,
    yText: `score${scoredOn()}`,
    told: `Score against ${costText}, of ${many(points.length, "graph")}; the table of all costs has the figures`,
  }));
}

function showBars(view, picked) {
  const kinds = [...new Set(view.rows.map(kindOf))];
  if (!kinds.includes(state.kind)) state.kind = kindOf(view.rows[picked] ?? view.rows[0]);
  fillSelect(at("kind"), kinds, (kind) => kind, state.kind);
  const rows = view.rows.filter((row) => kindOf(row) === state.kind);
  const bars = [["Load", "load_ms", "ms"], ["First vector", "first_ms", "ms"], ["Peak memory", "peak_mb", "MB"]];
  at("bars").replaceChildren(...bars.map(([title, field, unit]) => {
    const most = Math.max(...view.rows.map((row) => row[field] ?? 0)) || 1;
    return drawBars(`${title}, ${unit}`, rows.map((row) => ({
      name: row.tier, amount: row[field], text: row[field] === null ? "not measured" : figure(row[field]),
      picked: view.rows.indexOf(row) === picked,
    })), most);
  }));
}

function showShort(view) {
  const free = { latency: null, energy: null, quality: null, power: "mains" };
  const best = view.rows[outcomeOf(view, free).row];
  const least = (of) => view.rows.reduce((one, other) => (of(other) < of(one) ? other : one));
  const fastest = least((row) => row.p90_ms);
  const tile = (what, row, fact) => el("div", { class: "card tile" }, el("p", { class: "what" }, what),
    el("p", { class: "who" }, row.tier, " ", el("span", { class: "kind" }, kindOf(row))), el("p", {}, fact));
  const tiles = [
    ...(best ? [tile("Chosen without limits", best, scoreAnd(best.quality, withUnit(best.p90_ms, "ms")))] : []),
    tile("Fastest", fastest, scoreAnd(fastest.quality, withUnit(fastest.p90_ms, "ms"))),
  ];
  const measured = view.rows.filter((row) => row.energy_mj !== null);
  if (measured.length) {
    const row = measured.reduce((one, other) => (other.energy_mj < one.energy_mj ? other : one));
    tiles.push(tile("Least energy", row, scoreAnd(row.quality, withUnit(row.energy_mj, "mJ"))));
  }
  const smallest = least((row) => row.size_bytes);
  tiles.push(tile("Smallest on disk", smallest, scoreAnd(smallest.quality, `${megabytes(smallest.size_bytes)} MB`)));
  at("tiles").replaceChildren(...tiles);
  at("summary").textContent = best ? shortWords(view, best, fastest) : "";
}

function shortWords(view, best, fastest) {
  const shape = `For texts of ${many(view.tokens, "token")} on ${many(view.threads, "thread")}`;
  if (best === fastest) return `${shape}, ${best.tier} is both the best and the fastest.`;
  const kept = best.quality > 0 && fastest.quality > 0
    ? ` and keeps ${((fastest.quality / best.quality) * 100).toFixed(1)} % of its score` : "";
  const times = [fastest, best].map((row) => `${row.tier} takes ${figure(row.p90_ms)} ms`);
  return `${shape}, ${times.join(" where ")} (p90)${kept}.`;
}

function show() {
  settle();
  const view = viewNow();
  const outcome = outcomeOf(view, state);
  const picked = outcome.row;
  showResult(view, outcome);
  draw(view, picked);
  showBars(view, picked);
  showShort(view);
  fillCosts(at("costs"), view, picked);
  const shape = `${many(view.tokens, "token")} a text, ${many(view.threads, "thread")}`;
  const missing = view.not_offered.length
    ? ` Not offered to the policy, since not installed where this page was made: ${view.not_offered.join(", ")}.` : "";
  at("costs-hint").textContent = `${shape}. Times are of one text; bulk is in batches of ${view.batch}. `
    + `The row that was chosen is marked.${missing}`;
}

let printing = false;

function draw(view = viewNow(), picked = outcomeOf(viewNow(), state).row) {
  const kinds = [...new Map(view.rows.map((row) => [kindOf(row), row])).values()];
  for (const box of document.querySelectorAll("[data-legend]")) box.replaceChildren(...legend(kinds));
  showChart("latency", view, picked, {
    of: (row) => row.p90_ms, line: view.by_latency, unit: "ms", costText: "time for one text, p90, ms",
    limit: state.latency, limitText: `limit ${latencyWords(state.latency)}`,
  });
  showChart("energy", view, picked, {
    of: (row) => row.energy_mj, line: view.by_energy, unit: "mJ", costText: "energy for one text, mJ",
    limit: state.energy, limitText: `limit ${energyWords(state.energy)}`,
  });
}

function listen() {
  at("controls").addEventListener("submit", (event) => event.preventDefault());
  const limits = { latency: "latency_ms", energy: "energy_mj", quality: "min_quality" };
  for (const [id, field] of Object.entries(limits)) {
    at(id).addEventListener("input", (event) => {
      state[id] = viewNow().choices[field][Number(event.target.value)];
      show();
    });
  }
  for (const id of ["tokens", "threads"]) {
    at(id).addEventListener("change", (event) => {
      state[id] = Number(event.target.value);
      show();
    });
  }
  at("kind").addEventListener("change", (event) => {
    state.kind = event.target.value;
    show();
  });
  for (const radio of document.querySelectorAll("input[name=power]")) {
    radio.addEventListener("change", () => {
      state.power = radio.value;
      show();
    });
  }
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth !== width) draw();
    width = window.innerWidth;
  });
  for (const [event, value] of [["beforeprint", true], ["afterprint", false]]) {
    window.addEventListener(event, () => {
      printing = value;
      draw();
    });
  }
}

showOnce();
// beside the controls there is room for two figures
if (!report.views.some((view) => view.by_energy.length > 0)) at("shown").append(at("start"));
show();
listen();
