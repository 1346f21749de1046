"""What the report says: a bundle's manifest and a device's profile as plain values."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from edge_embed.report.choices import Choices, list_choices
from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.choose.options import list_options, with_costs
from edge_embed_runtimes.device.measure import Cost, Graph
from edge_embed_runtimes.device.probe import Device, PowerSource
from edge_embed_runtimes.device.profile import DeviceProfile, bundle_id
from edge_embed_runtimes.errors import ProfileError
from edge_embed_runtimes.manifest import ENGINES, PRECISIONS, Engine, Gates, Grade, Manifest, Precision
from edge_embed_runtimes.tiers import Tier


@dataclass(frozen=True, slots=True)
class Row:
    """One graph at one length on one number of threads.

    Attributes:
        quality: mean score in the passport; None without.
        p50_ms, p90_ms, p99_ms: of one text.
        texts_per_s: in the largest batches that were measured; None where this graph was not among them.
        size_bytes: what this tier would take on disk by itself.
    """

    tier: str
    layers: int
    dim: int
    engine: Engine
    precision: Precision
    quality: float | None
    p50_ms: float
    p90_ms: float
    p99_ms: float
    texts_per_s: float | None
    energy_mj: float | None
    load_ms: float
    first_ms: float | None
    peak_mb: float | None
    size_bytes: int


@dataclass(frozen=True, slots=True)
class View:
    """All that was measured at one length on one number of threads.

    Attributes:
        batch: texts a call behind each row's `texts_per_s`.
        by_latency, by_energy: rows of the efficient frontier, the cheapest first.
        not_offered: engines whose rows the choices leave out, since they aren't installed where this was worked out.
    """

    tokens: int
    threads: int
    batch: int
    rows: tuple[Row, ...]
    by_latency: tuple[int, ...]
    by_energy: tuple[int, ...]
    choices: Choices
    not_offered: tuple[Engine, ...]


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """Which bundle it is."""

    name: str
    base_model: str
    space: str
    pooling: str
    max_tokens: int
    tiers: tuple[Tier, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Circumstances:
    """How it was measured; see `DeviceProfile`."""

    runs_on: str
    power_source: PowerSource
    engine_versions: dict[str, str]
    energy_reader: str | None
    made_at: str
    drift: float
    stable: bool
    quick: bool


@dataclass(frozen=True, slots=True)
class Graded:
    """A grade, its score, and that of the float encoder; None where the export was given no set."""

    grade: Grade
    score: float | None
    float_score: float | None


@dataclass(frozen=True, slots=True)
class PassportFacts:
    """What the export measured; see `Passport`."""

    grades: tuple[Graded, ...]
    gates: Gates
    missed: tuple[str, ...]
    scored_on: tuple[str, ...]
    cross: dict[str, dict[str, float]]
    calibration: str
    untrained: tuple[str, ...]
    kept_float: dict[str, tuple[str, ...]]
    compiled: dict[str, str]


@dataclass(frozen=True, slots=True)
class Report:
    """The content of the page."""

    bundle: BundleFacts
    device: Device
    measured: Circumstances
    views: tuple[View, ...]
    passport: PassportFacts


def describe(bundle: Bundle, profile: DeviceProfile) -> Report:
    """All that the page says of a bundle on a device.

    Raises:
        ProfileError: the profile is of another bundle, or has no single texts.
        EngineMissing: none of the bundle's engines is installed here.
    """
    if profile.bundle != bundle_id(bundle):
        raise ProfileError(f"this profile is not of {bundle.path}: make one of it with 'edge-embed profile'")
    shapes = sorted({(cost.tokens, cost.threads) for cost in profile.costs if cost.batch == 1})
    if not shapes:
        raise ProfileError("this profile has no call of a single text: profile again with batches of 1 among them")
    manifest = bundle.manifest
    return Report(
        bundle=BundleFacts(
            name=manifest.name,
            base_model=manifest.base_model,
            space=manifest.space,
            pooling=manifest.pooling,
            max_tokens=manifest.max_tokens,
            tiers=manifest.ladder.tiers,
            size_bytes=sum(file.size_bytes for file in manifest.files),
        ),
        device=profile.device,
        measured=Circumstances(
            runs_on=profile.runs_on,
            power_source=profile.power_source,
            engine_versions=profile.engine_versions,
            energy_reader=profile.energy_reader,
            made_at=profile.made_at,
            drift=profile.drift,
            stable=profile.stable,
            quick=profile.quick,
        ),
        views=tuple(_view(bundle, profile.with_threads(threads), tokens, threads) for tokens, threads in shapes),
        passport=_passport(manifest),
    )


def frontier(points: Sequence[tuple[float | None, float | None]]) -> tuple[int, ...]:
    """The places of the (cost, quality) points that no other beats in one without losing in the other, cheapest first.

    Points without a cost or a quality don't count.
    """
    known = [
        (cost, -quality, place)
        for place, (cost, quality) in enumerate(points)
        if cost is not None and quality is not None
    ]
    kept: list[tuple[float, float, int]] = []
    for point in sorted(known):
        if not kept or point[1] < kept[-1][1] or point[:2] == kept[-1][:2]:
            kept.append(point)
    return tuple(place for _, _, place in kept)


def _view(bundle: Bundle, profile: DeviceProfile, tokens: int, threads: int) -> View:
    costs = [cost for cost in profile.costs if cost.tokens == tokens]
    batch = max(cost.batch for cost in costs)
    bulk = {cost.graph: cost.texts_per_s for cost in costs if cost.batch == batch}
    singles = [cost for cost in costs if cost.batch == 1]
    rows = sorted((_row(bundle, cost, bulk.get(cost.graph)) for cost in singles), key=_order)
    places: dict[Graph, int] = {(row.tier, row.engine, row.precision): place for place, row in enumerate(rows)}
    options = [o for o in with_costs(list_options(bundle), profile, tokens) if o.graph in places]
    offered = {option.engine for option in options}
    return View(
        tokens=tokens,
        threads=threads,
        batch=batch,
        rows=tuple(rows),
        by_latency=frontier([(row.p90_ms, row.quality) for row in rows]),
        by_energy=frontier([(row.energy_mj, row.quality) for row in rows]),
        choices=list_choices(options, places, bundle.manifest.ladder, tokens=tokens),
        not_offered=tuple(sorted({row.engine for row in rows} - offered)),
    )


def _row(bundle: Bundle, cost: Cost, texts_per_s: float | None) -> Row:
    tier = bundle.manifest.ladder.find(cost.tier)
    grade = bundle.manifest.passport.grade(*cost.graph)
    return Row(
        tier=tier.name,
        layers=tier.layers,
        dim=tier.dim,
        engine=cost.engine,
        precision=cost.precision,
        quality=grade.score if grade else None,
        p50_ms=cost.latency_ms.p50,
        p90_ms=cost.latency_ms.p90,
        p99_ms=cost.latency_ms.p99,
        texts_per_s=texts_per_s,
        energy_mj=cost.energy_mj,
        load_ms=cost.load_ms,
        first_ms=cost.first_ms,
        peak_mb=cost.peak_mb,
        size_bytes=bundle.alone_bytes(tier, cost.engine, cost.precision),
    )


def _order(row: Row) -> tuple[int, int, int]:
    return (PRECISIONS.index(row.precision), ENGINES.index(row.engine), row.layers)


def _passport(manifest: Manifest) -> PassportFacts:
    passport = manifest.passport

    def in_float(tier: str) -> float | None:
        scores = [scores[tier] for scores in passport.reference.values() if tier in scores]
        return fmean(scores) if scores else None

    return PassportFacts(
        grades=tuple(Graded(grade, grade.score, in_float(grade.tier)) for grade in passport.grades),
        gates=passport.gates,
        missed=passport.missed,
        scored_on=passport.scored_on,
        cross=passport.cross,
        calibration=str(passport.calibration),
        untrained=passport.untrained,
        kept_float=passport.kept_float,
        compiled=passport.compiled,
    )
