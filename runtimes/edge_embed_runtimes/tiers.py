"""Tiers and ladders: which (layers, dimensions) pairs of one encoder are models of their own."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edge_embed_runtimes.errors import LadderError

CUP_NAMES = ("demi", "short", "tall", "grande", "venti", "trenta")
_SPEC = re.compile(r"(?:(?P<name>[a-z][a-z0-9_-]*)=)?(?P<layers>\d+)x(?P<dim>\d+)")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class Tier:
    """One rung: the encoder's first `layers` layers, and a vector of `dim` values.

    Raises:
        LadderError: a name that is not a short lower-case word, or a size below one.
    """

    name: str
    layers: int
    dim: int

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise LadderError(
                f"tier name {self.name!r}: allowed are up to 32 lower-case letters, digits, '-' and '_', "
                f"beginning with a letter, such as 'tall'"
            )
        if self.layers < 1 or self.dim < 1:
            raise LadderError(f"tier {self.name!r} is {self.layers}x{self.dim}: layers and dim must be at least 1")

    @property
    def canonical(self) -> str:
        """The name that every tier of this size has, such as `l3-d128`."""
        return f"l{self.layers}-d{self.dim}"

    @property
    def state(self) -> str:
        """What the hidden state at its end is called in the graphs of steps."""
        return f"{self.name}.state"

    def __str__(self) -> str:
        return f"{self.name} {self.layers}x{self.dim}"


@dataclass(frozen=True, slots=True)
class Ladder:
    """Tiers in strictly ascending order of layers and of dimensions.

    Raises:
        LadderError: no tier, tiers out of order, or two tiers of one name or size.
    """

    tiers: tuple[Tier, ...]

    def __post_init__(self) -> None:
        if not self.tiers:
            raise LadderError("a ladder needs at least one tier, such as 1x32")
        for low, high in zip(self.tiers, self.tiers[1:], strict=False):
            if low.layers >= high.layers or low.dim >= high.dim:
                raise LadderError(
                    f"{high} stands after {low}: each tier must have more layers and more dimensions than the one "
                    f"before it; write for example 1x32,2x64,3x128"
                )
        names = [tier.name for tier in self.tiers]
        if len(set(names)) < len(names):
            raise LadderError(f"two tiers share a name in {', '.join(names)}: give each its own, as in small=1x32")

    def __iter__(self) -> Iterator[Tier]:
        return iter(self.tiers)

    def __len__(self) -> int:
        return len(self.tiers)

    @property
    def top(self) -> Tier:
        """The largest tier."""
        return self.tiers[-1]

    def find(self, name: str) -> Tier:
        """The tier of this name; `l3-d128` and `3x128` name a tier by its size.

        Raises:
            LadderError: no tier has that name.
        """
        for tier in self.tiers:
            if name.lower() in (tier.name, tier.canonical, f"{tier.layers}x{tier.dim}"):
                return tier
        raise LadderError(f"no tier {name!r}: this ladder has {', '.join(map(str, self.tiers))}")

    def check_fits(self, layers: int, hidden: int) -> None:
        """Check that an encoder of `layers` layers and `hidden` dimensions can hold this ladder.

        Raises:
            LadderError: the largest tier is deeper or wider than the encoder.
        """
        if self.top.layers > layers:
            raise LadderError(f"{self.top} is deeper than the encoder, which has {layers} layers")
        if self.top.dim > hidden:
            raise LadderError(f"{self.top} is wider than the encoder, which has {hidden} dimensions")


def parse_ladder(spec: str) -> Ladder:
    """Read a ladder such as `1x32,2x64,3x128` or `small=1x32,large=6x384`.

    Tiers without a name get the cup sizes in order: demi, short, tall, grande, venti, trenta; in a ladder of more
    than six, their canonical names.

    Raises:
        LadderError: an item that is not `layers x dim`, or tiers that make no ladder.
    """
    items = [item.strip().lower() for item in spec.split(",") if item.strip()]
    matches = [_SPEC.fullmatch(item) for item in items]
    for item, match in zip(items, matches, strict=True):
        if match is None:
            raise LadderError(f"{item!r} is no tier: write layers x dimensions, such as 3x128 or tall=3x128")
    sizes = [(int(m["layers"]), int(m["dim"]), m["name"]) for m in matches if m]
    return _name_ladder([(layers, dim) for layers, dim, _ in sizes], [name for _, _, name in sizes])


def _name_ladder(sizes: Sequence[tuple[int, int]], names: Sequence[str | None]) -> Ladder:
    """A ladder of `(layers, dim)` sizes; a tier whose name is None gets its default one."""
    defaults = CUP_NAMES if len(sizes) <= len(CUP_NAMES) else tuple(f"l{layers}-d{dim}" for layers, dim in sizes)
    return Ladder(
        tuple(
            Tier(name or default, layers, dim)
            for (layers, dim), name, default in zip(sizes, names, defaults, strict=False)
        )
    )


STARBUCKS = parse_ladder("1x32,2x64,3x128,4x192,5x256,6x384")
"""The ladder for an encoder of six layers and 384 dimensions, such as all-MiniLM-L6-v2."""
