// What does not change with the budget: when and where it was measured, the passport, the device, the bundle.

/** What the scores are of, to stand after the word. */
function scoredOn() {
  const sets = report.passport.scored_on;
  if (sets.length === 1) return ` on ${sets[0]}`;
  return sets.length ? `, mean over ${sets.join(", ")}` : "";
}

function showOnce() {
  const { bundle, device, measured, passport } = report;
  document.title = `${bundle.name}: device profile`;
  at("name").textContent = bundle.name;
  const moment = new Date(measured.made_at);
  const when = Number.isNaN(moment.getTime()) ? measured.made_at
    : `${moment.toLocaleString("en-GB", { dateStyle: "long", timeStyle: "short", timeZone: "UTC" })} UTC`;
  at("measured").textContent = `Measured on ${device.cpu}${when ? `, ${when}` : ""}.`;
  showNotices();
  showPassport(passport);
  const gigabytes = (mb) => (mb === null ? null : `${(mb / 1024).toFixed(1)} GB`);
  const drift = `${measured.drift < 0 ? "−" : "+"}${Math.abs(measured.drift * 100).toFixed(1)} %`;
  fillFacts(at("device"), [
    ["processor", device.cpu],
    ["features", device.features.join(", ") || "none known"],
    ["cores", device.performance_cores === null ? device.cores
      : `${device.cores}: ${device.performance_cores} for performance, ${device.efficiency_cores} for efficiency`],
    ["threads it may use", device.threads],
    ["cores its group may use", device.cpu_limit],
    ["memory", gigabytes(device.memory_mb) ?? "unknown"],
    ["memory its group may use", gigabytes(device.memory_limit_mb)],
    ["system", device.system],
    ["power source", measured.power_source],
    ["ran on", measured.runs_on],
    ["engines", Object.entries(measured.engine_versions).map(([name, version]) => `${name} ${version}`).join(", ")],
    ["energy", measured.energy_reader ?? "not measured"],
    ["measured", when || "unknown"],
    ["time a call at the end", `${drift}, ${measured.stable ? "stable" : "not stable"}`],
    ["effort", measured.quick ? "quick: fewer calls" : "full"],
  ]);
  fillFacts(at("bundle"), [
    ["name", bundle.name],
    ["base model", bundle.base_model],
    ["space", bundle.space],
    ["tiers", bundle.tiers.map((tier) => `${tier.name} ${tier.layers} × ${tier.dim}`).join(", ")],
    ["pooling", bundle.pooling],
    ["longest text", many(bundle.max_tokens, "token")],
    ["all files", `${megabytes(bundle.size_bytes)} MB`],
  ]);
}

function showNotices() {
  const { measured, passport } = report;
  const notices = [];
  const warn = (text) => notices.push(el("li", { class: "notice warning" }, text));
  if (!measured.stable) {
    const drift = `${Math.abs(measured.drift * 100).toFixed(0)} % ${measured.drift > 0 ? "longer" : "less time"}`;
    warn(`The device was not stable: the same calls took ${drift} at the end. Measure again when it is idle.`);
  }
  if (measured.quick) warn("This is a quick profile, a first impression: make a full one before you rely on it.");
  const missed = passport.missed.length;
  if (missed) warn(`The bundle missed ${many(missed, "gate")} at export: see its passport.`);
  if (passport.untrained.length) warn(`Not trained for: ${passport.untrained.join(", ")}.`);
  if (measured.energy_reader === null) {
    notices.push(el("li", { class: "notice" }, "Energy: not measured, since nothing on this device reports it."));
  }
  at("notices").replaceChildren(...notices);
}

function showPassport(passport) {
  const { gates } = passport;
  const texts = passport.grades.length ? passport.grades[0].grade.texts : 0;
  at("passport-hint").textContent = "Found at export. "
    + `Cosine: to the float vectors of the encoder, over ${many(texts, "text")}. `
    + "Invariance: the largest difference of a value between a text alone, in batches, and on other numbers of threads."
    + (passport.scored_on.length ? ` Score${scoredOn()}.` : " No scores: the export was given no scored pairs.");
  fillGrades(at("grades"), passport);
  fillFacts(at("gates"), [
    ["mean cosine", `at least ${gates.cosine_mean}`],
    ["least cosine", `at least ${gates.cosine_min}`],
    ["invariance", `at most ${gates.invariance.toExponential(0)}`],
    ["score", `at most ${gates.score_drop} under the float encoder's`],
    ["order", gates.monotone ? "no tier scores under a smaller one" : "not asked for"],
  ]);
  const missed = passport.missed.length ? passport.missed : ["none"];
  at("missed").replaceChildren(...missed.map((line) => el("li", {}, line)));
  fillFacts(at("compiled"), [
    ["calibrated on", passport.calibration],
    ...Object.entries(passport.compiled).map(([folder, how]) => {
      const kept = passport.kept_float[folder]?.length ?? 0;
      return [folder, `${how}, ${kept ? `${many(kept, "product")} kept in float` : "nothing kept in float"}`];
    }),
  ]);
  at("cross-section").hidden = !Object.keys(passport.cross).length;
  if (at("cross-section").hidden) return;
  const { low, high } = fillCross(at("cross"), passport.cross, tiers);
  at("cross-hint").textContent = `Score${scoredOn()}: queries of a row's tier against documents of a column's, `
    + `from ${low.toFixed(3)} (faint) to ${high.toFixed(3)} (strong). All tiers share one vector space.`;
}
