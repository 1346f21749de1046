// Tables and lists of facts, and how figures are written.

/** A figure with about three digits that count. */
function figure(value) {
  const size = Math.abs(value);
  if (size >= 100) return whole(value);
  return value.toFixed(size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

const withUnit = (value, unit) => (value === null ? "not measured" : `${figure(value)} ${unit}`);
const whole = (value) => Math.round(value).toLocaleString("en-GB");
const fixed = (digits) => (value) => value.toFixed(digits);
const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
const many = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
/** A score and a cost in words, without what is not known. */
const scoreAnd = (score, fact) => (score === null ? fact : `score ${score.toFixed(3)}, ${fact}`);
const kindOf = (row) => `${row.engine} ${row.precision}`;

const tiny = (value) => (value === 0 ? "0" : value.toExponential(1));

/** Fill a list of names and facts; those without a fact are left out. */
function fillFacts(list, facts) {
  const told = facts.filter(([, fact]) => fact !== null && fact !== "");
  list.replaceChildren(...told.flatMap(([name, fact]) => [el("dt", {}, name), el("dd", {}, String(fact))]));
}

/**
 * Fill a table. A column is {head, unit, of, write, word}: `of` takes the value from a row, `write` puts it in words;
 * null is an absent value. The first column heads its row.
 */
function fillTable(table, columns, rows, classOf = () => "") {
  const heads = columns.map(({ head, unit, word }) => {
    const below = unit ? [el("span", { class: "unit" }, unit)] : [];
    return el("th", { scope: "col", class: word ? "word" : "" }, head, ...below);
  });
  const lines = rows.map((row, place) => {
    const cells = columns.map(({ of, write = String, word }, column) => {
      const value = of(row);
      const text = value === null ? "–" : write(value);
      if (column === 0) return el("th", { scope: "row" }, text);
      return el("td", { class: [word ? "word" : "", value === null ? "absent" : ""].join(" ").trim() }, text);
    });
    return el("tr", { class: classOf(row, place) }, ...cells);
  });
  table.replaceChildren(el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...lines));
}

function fillCosts(table, view, picked) {
  const efficient = (place) => [["time", view.by_latency], ["energy", view.by_energy]]
    .filter(([, line]) => line.includes(place)).map(([name]) => name).join(", ") || null;
  const columns = [
    { head: "tier", of: (row) => row.tier },
    { head: "engine", of: (row) => row.engine, word: true },
    { head: "precision", of: (row) => row.precision, word: true },
    { head: "size", unit: "layers × dim", of: (row) => `${row.layers} × ${row.dim}` },
    { head: "score", of: (row) => row.quality, write: fixed(4) },
    { head: "p50", unit: "ms", of: (row) => row.p50_ms, write: fixed(2) },
    { head: "p90", unit: "ms", of: (row) => row.p90_ms, write: fixed(2) },
    { head: "p99", unit: "ms", of: (row) => row.p99_ms, write: fixed(2) },
    { head: "bulk", unit: "texts/s", of: (row) => row.texts_per_s, write: whole },
    { head: "energy", unit: "mJ", of: (row) => row.energy_mj, write: fixed(2) },
    { head: "load", unit: "ms", of: (row) => row.load_ms, write: fixed(0) },
    { head: "first vector", unit: "ms", of: (row) => row.first_ms, write: fixed(0) },
    { head: "peak memory", unit: "MB", of: (row) => row.peak_mb, write: fixed(0) },
    { head: "on disk", unit: "MB", of: (row) => row.size_bytes, write: megabytes },
    { head: "efficient", unit: "in", of: (row) => efficient(view.rows.indexOf(row)), word: true },
  ].filter(({ of }) => view.rows.some((row) => of(row) !== null));
  fillTable(table, columns, view.rows, (row, place) => {
    const first = place > 0 && kindOf(row) !== kindOf(view.rows[place - 1]);
    return [place === picked ? "picked" : "", first ? "first" : ""].join(" ").trim();
  });
}

function fillGrades(table, passport) {
  const sets = passport.scored_on.length > 1 ? passport.scored_on : [];
  const columns = [
    { head: "tier", of: ({ grade }) => grade.tier },
    { head: "engine", of: ({ grade }) => grade.engine, word: true },
    { head: "precision", of: ({ grade }) => grade.precision, word: true },
    ...sets.map((name) => ({ head: name, of: ({ grade }) => grade.scores[name] ?? null, write: fixed(4) })),
    { head: "score", of: ({ score }) => score, write: fixed(4) },
    { head: "score", unit: "in float", of: (graded) => graded.float_score, write: fixed(4) },
    { head: "cosine", unit: "mean", of: ({ grade }) => grade.cosine_mean, write: fixed(5) },
    { head: "cosine", unit: "1st percentile", of: ({ grade }) => grade.cosine_p1, write: fixed(5) },
    { head: "cosine", unit: "least", of: ({ grade }) => grade.cosine_min, write: fixed(5) },
    { head: "invariance", unit: "largest difference", of: ({ grade }) => grade.invariance, write: tiny },
  ];
  const known = columns.filter(({ of }) => passport.grades.some((graded) => of(graded) !== null));
  const kind = ({ grade }) => `${grade.engine} ${grade.precision}`;
  fillTable(table, known, passport.grades, (row, place) =>
    (place > 0 && kind(row) !== kind(passport.grades[place - 1]) ? "first" : ""));
}

/** Scores of query tiers (rows) against document tiers (columns), the higher the stronger the colour. */
function fillCross(table, cross, tiers) {
  const scores = tiers.flatMap((query) => tiers.map((documents) => cross[query]?.[documents] ?? null));
  const known = scores.filter((score) => score !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const heads = tiers.map((name) => el("th", { scope: "col" }, name));
  const lines = tiers.map((query, line) => {
    const cells = tiers.map((documents, column) => {
      const score = scores[line * tiers.length + column];
      const cell = el("td", { class: "heat" }, score === null ? "–" : score.toFixed(3));
      cell.style.setProperty("--share", score === null || high === low ? 0 : (score - low) / (high - low));
      if (query === documents) cell.classList.add("same");
      return cell;
    });
    return el("tr", {}, el("th", { scope: "row" }, query), ...cells);
  });
  const corner = el("td", { class: "word unit" }, "queries ↓", el("br"), "documents →");
  table.replaceChildren(el("thead", {}, el("tr", {}, corner, ...heads)), el("tbody", {}, ...lines));
  return { low, high };
}
