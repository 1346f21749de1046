"""From a bundle, an app's wishes and a profile to the options that the policy chooses from."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.choose.policy import Option
from edge_embed_runtimes.device.profile import DeviceProfile
from edge_embed_runtimes.engines import ONNX_DEVICES, check_engine, is_installed
from edge_embed_runtimes.errors import BundleError, EngineMissing
from edge_embed_runtimes.manifest import ENGINES, PRECISIONS, Engine, Precision
from edge_embed_runtimes.tiers import Tier


def list_options(
    bundle: Bundle,
    *,
    tier: str | None = None,
    engine: Engine | None = None,
    precision: Precision | None = None,
    device: str | None = None,
) -> list[Option]:
    """Every graph of the bundle that can run here and meets what is named, the preferred engine and precision first.

    Raises:
        LadderError: the bundle has no tier of that name.
        EngineMissing: the engine, or every engine that the bundle is for, isn't installed.
        EngineError: the engine is unknown.
        BundleError: the bundle has no graph of that engine or precision.
    """
    manifest = bundle.manifest
    tiers = manifest.ladder.tiers if tier is None else (manifest.ladder.find(tier),)
    if device not in (None, "CPU") and engine is None:
        engine = "onnx" if device in ONNX_DEVICES else "openvino"
    if engine is not None:
        check_engine(engine)
    if precision not in (None, *PRECISIONS):
        raise BundleError(f"precision {precision!r} is unknown: allowed are {', '.join(PRECISIONS)}")
    present = [
        Option(one, e, p, quality=grade.score if (grade := manifest.passport.grade(one.name, e, p)) else None)
        for p in PRECISIONS
        for e in ENGINES
        for one in tiers
        if engine in (None, e) and precision in (None, p) and manifest.graph(one, e, p)
    ]
    if not present:
        have = sorted({f"{f.engine} {f.precision}" for f in manifest.by_role("graph")})
        wish = " ".join(filter(None, (engine, precision)))
        raise BundleError(f"{bundle.path} has no {wish} graphs: it has {', '.join(have)}")
    usable = [option for option in present if is_installed(option.engine)]
    if not usable:
        engines = sorted({option.engine for option in present})
        raise EngineMissing(f"{bundle.path} is for {' and '.join(engines)}: pip install 'edge-embed[{engines[0]}]'")
    return usable


def against(
    options: Sequence[Option], cross: Mapping[str, Mapping[str, float]], documents: Tier, dim: int
) -> list[Option]:
    """The options by how well their queries find documents of a tier, of which `dim` dimensions are kept.

    Where fewer are kept than the tier has, a query with more is taken to be worth what the tier with as many is: it is
    at least that. Where the bundle has no such scores, tiers above the documents' own are left out.
    """
    if not cross:
        return [o for o in options if o.tier.layers <= documents.layers] or list(options)
    ladder = sorted({option.tier for option in options}, key=lambda tier: tier.layers)
    known = [tier for tier in ladder if tier.dim <= dim] if dim < documents.dim else ladder

    def score(tier: Tier) -> float | None:
        scored = tier if tier in known or not known else known[-1]
        return cross.get(scored.name, {}).get(documents.name)

    return [replace(option, quality=score(option.tier)) for option in options]


def with_costs(options: Sequence[Option], profile: DeviceProfile | None, tokens: int) -> list[Option]:
    """The options with what each costs at this length, as far as the profile tells."""
    if profile is None:
        return list(options)
    return [replace(option, cost=profile.cost(option.graph, tokens=tokens)) for option in options]
