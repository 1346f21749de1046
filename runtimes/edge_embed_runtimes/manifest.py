"""What a bundle says of itself: `manifest.json` as frozen dataclasses, to JSON and back."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from statistics import fmean
from typing import Any, Literal, get_args

from edge_embed_runtimes.errors import BundleDamaged, BundleError, BundleTooNew, EdgeEmbedError
from edge_embed_runtimes.tiers import Ladder, Tier

FORMAT = 3
MANIFEST_NAME = "manifest.json"

Engine = Literal["onnx", "openvino"]
Precision = Literal["int8", "fp16", "fp32"]
GraphRole = Literal["graph", "step"]
Role = Literal["graph", "step", "weights", "tokenizer", "canaries", "card"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ROLES: tuple[Role, ...] = get_args(Role)
GRAPH_ROLES: tuple[GraphRole, ...] = get_args(GraphRole)


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file of a bundle; `path` is relative to the bundle and stays inside it.

    A graph names its tier, engine and precision, and how many bytes of the weights file it reads; so does a step, the
    graph that goes on to a tier from the state of the one before. A weights file names its engine and precision.
    """

    path: str
    role: Role
    sha256: str
    size_bytes: int
    tier: str | None = None
    engine: Engine | None = None
    precision: Precision | None = None
    reads_bytes: int = 0

    def __post_init__(self) -> None:
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts or "\\" in self.path or not path.parts:
            raise BundleDamaged(f"the manifest names the path {self.path!r}: only paths inside the bundle are allowed")
        if not _SHA256.fullmatch(self.sha256) or self.size_bytes < 0:
            raise BundleDamaged(f"the manifest's entry for {self.path!r} has no valid hash and size: export again")
        if self.role not in _ROLES or self.engine not in (None, *ENGINES) or self.precision not in (None, *PRECISIONS):
            raise BundleDamaged(f"the manifest's entry for {self.path!r} names an unknown role, engine or precision")


@dataclass(frozen=True, slots=True)
class Grade:
    """How one tier does on one engine in one precision, found at export.

    Attributes:
        cosine_mean, cosine_p1, cosine_min: mean, first percentile and minimum of the cosine to the float vectors of the
            torch encoder, over `texts` texts.
        invariance: largest difference of a value between a text alone, in batches, and on another number of threads.
        scores: set to score, each as high as 1; empty where the export was given no set.
    """

    tier: str
    engine: Engine
    precision: Precision
    texts: int
    cosine_mean: float
    cosine_p1: float
    cosine_min: float
    invariance: float
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def score(self) -> float | None:
        """The mean of the scores; None where there are none."""
        return fmean(self.scores.values()) if self.scores else None


@dataclass(frozen=True, slots=True)
class OutputGrade:
    """What the float encoder's vectors of one tier keep when they are stored in a smaller type.

    Attributes:
        dtype: `"float16"`, `"int8"` or `"bits"`.
        cosine_mean: mean cosine of a vector to itself in float32.
        score: mean over the sets; None where the export was given none.
        float_score: the same in float32.
    """

    tier: str
    dtype: str
    cosine_mean: float
    score: float | None = None
    float_score: float | None = None


@dataclass(frozen=True, slots=True)
class Gates:
    """What the export holds every grade against.

    Attributes:
        cosine_mean, cosine_min: the least.
        invariance: the most.
        score_drop: how far a score may lie below that of the float encoder.
        monotone: whether a tier may not score below a smaller one.
    """

    cosine_mean: float = 0.9985
    cosine_min: float = 0.99
    invariance: float = 1e-6
    score_drop: float = 0.003
    monotone: bool = True


@dataclass(frozen=True, slots=True)
class Calibration:
    """The texts that fixed the ranges of int8.

    Attributes:
        texts, tokens: how many.
        files: sha256 to name of each file offered.
        tuned_steps: of training that the weights behind int8 had on these texts; 0 for none.
    """

    texts: int = 0
    tokens: int = 0
    files: dict[str, str] = field(default_factory=dict)
    tuned_steps: int = 0

    def __str__(self) -> str:
        return f"{self.texts} texts" + (f", and tuned on them in {self.tuned_steps} steps" if self.tuned_steps else "")


@dataclass(frozen=True, slots=True)
class Passport:
    """What the export measured, and how it compiled.

    Attributes:
        grades: one for each tier, engine and precision.
        gates: what they were held against.
        outputs: what vectors keep in each type that is smaller than float32.
        missed: each gate that was missed and allowed to be, in words.
        reference: set to tier to the score of the torch encoder in float.
        cross: score of query tier (outer key) against document tier (inner key), mean over the sets; empty without.
        operations: tier to multiplications and additions for a text of 32 tokens.
        untrained: tiers that the checkpoint was not trained for.
        kept_float: of int8, folder of the graphs to the products that stayed in float.
        compiled: of int8, folder of the graphs to how they were quantized.
    """

    grades: tuple[Grade, ...] = ()
    gates: Gates = field(default_factory=Gates)
    missed: tuple[str, ...] = ()
    reference: dict[str, dict[str, float]] = field(default_factory=dict)
    cross: dict[str, dict[str, float]] = field(default_factory=dict)
    calibration: Calibration = field(default_factory=Calibration)
    operations: dict[str, int] = field(default_factory=dict)
    outputs: tuple[OutputGrade, ...] = ()
    untrained: tuple[str, ...] = ()
    kept_float: dict[str, tuple[str, ...]] = field(default_factory=dict)
    compiled: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("reference", "cross"):
            table = getattr(self, name)
            if not isinstance(table, dict) or not all(isinstance(row, dict) for row in table.values()):
                raise BundleDamaged(f"the manifest's {name} scores are {table!r:.60}: they must be a table")

    @property
    def scored_on(self) -> tuple[str, ...]:
        """The sets behind the scores."""
        return tuple(self.reference)

    def grade(self, tier: str, engine: Engine, precision: Precision) -> Grade | None:
        """The grade of one graph; None where it was not measured."""
        wanted = (tier, engine, precision)
        return next((g for g in self.grades if (g.tier, g.engine, g.precision) == wanted), None)

    @staticmethod
    def from_values(values: Mapping[str, Any]) -> "Passport":
        """From the plain values of a manifest."""
        return Passport(
            **{
                **values,
                "grades": tuple(Grade(**grade) for grade in values["grades"]),
                "gates": Gates(**values["gates"]),
                "missed": tuple(values["missed"]),
                "calibration": Calibration(**values["calibration"]),
                "outputs": tuple(OutputGrade(**grade) for grade in values["outputs"]),
                "untrained": tuple(values["untrained"]),
                "kept_float": {folder: tuple(names) for folder, names in values["kept_float"].items()},
            }
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a bundle holds; see `FORMAT` for the version of this layout.

    Attributes:
        space: id of the vector space; vectors of two spaces can't be compared.
        max_tokens: longest text in tokens, the special ones included; the rest of a longer text is cut off.
        ranges: tier to the largest value of each dimension, by which vectors turn into int8.
        versions: library name to version, of what wrote the bundle.
    """

    name: str
    base_model: str
    space: str
    head: str
    pooling: str
    max_tokens: int
    ladder: Ladder
    files: tuple[BundleFile, ...]
    passport: Passport
    ranges: dict[str, tuple[float, ...]]
    versions: dict[str, str]
    format: int = FORMAT

    def __post_init__(self) -> None:
        if any(len(self.ranges.get(tier.name, ())) != tier.dim for tier in self.ladder):
            raise BundleDamaged("the manifest's ranges do not fit its ladder: export it again")
        if type(self.max_tokens) is not int or self.max_tokens < 1:
            raise BundleDamaged(f"the manifest's max_tokens is {self.max_tokens!r}: it must be a whole number above 0")

    def graph(self, tier: Tier, engine: Engine, precision: Precision, role: GraphRole = "graph") -> BundleFile | None:
        """The graph of one tier, or of the step to it; None where there is none for this engine and precision."""
        wanted = (role, tier.name, engine, precision)
        return next((f for f in self.files if (f.role, f.tier, f.engine, f.precision) == wanted), None)

    def by_role(self, role: Role) -> tuple[BundleFile, ...]:
        """Every file of one role."""
        return tuple(file for file in self.files if file.role == role)

    def to_json(self) -> str:
        """As text, the same for the same content."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @staticmethod
    def from_json(text: str, *, origin: str = MANIFEST_NAME) -> "Manifest":
        """Read what `to_json` wrote; errors call it `origin`.

        Raises:
            BundleTooNew: a later format.
            BundleDamaged: anything else that is no manifest.
        """
        try:
            content = json.loads(text)
            found = content["format"]
            if isinstance(found, int) and found > FORMAT:
                raise BundleTooNew(
                    f"{origin} has format {found}, this version reads up to {FORMAT}: upgrade edge-embed"
                )
            if found != FORMAT:
                raise BundleDamaged(f"{origin} has format {found!r}: allowed is {FORMAT}; export it again")
            return Manifest(
                **{
                    **content,
                    "ladder": Ladder(tuple(Tier(**tier) for tier in content["ladder"]["tiers"])),
                    "files": tuple(BundleFile(**file) for file in content["files"]),
                    "passport": Passport.from_values(content["passport"]),
                    "ranges": {tier: tuple(map(float, values)) for tier, values in content["ranges"].items()},
                }
            )
        except BundleError:
            raise
        except (EdgeEmbedError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BundleDamaged(
                f"{origin} is no manifest of edge-embed ({type(error).__name__}: {error}); "
                f"copy the bundle again, or export it again"
            ) from error
