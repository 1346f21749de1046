"""Where training data comes from, and its rows as texts with a score, a label, or neither."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, get_args

from edge_embed.data.lines import is_unicode
from edge_embed.data.records import BadRows, Record, read_records
from edge_embed_runtimes.errors import DataError, RecipeError

Kind = Literal["texts", "pairs", "triplets", "ranked", "scored", "labelled", "groups"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_TRUTHS = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}
_LABELS_TOLD = 5


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the rows of a kind are made of.

    Attributes:
        called: what many rows are.
        fewest, most: how many columns can be named; None for any number.
        usual: the columns that are taken where none is named and all of these are there.
    """

    called: str
    fewest: int
    most: int | None
    usual: tuple[str, ...] = ()


_SHAPES: Mapping[Kind, _Shape] = {
    "texts": _Shape("texts", 1, 1, ("text",)),
    "pairs": _Shape("pairs", 2, 2),
    "triplets": _Shape("triplets", 3, None),
    "ranked": _Shape("ranked texts", 3, None),
    "scored": _Shape("scored pairs", 3, 3, ("sentence1", "sentence2", "score")),
    "labelled": _Shape("labelled pairs", 3, 3, ("sentence1", "sentence2", "label")),
    "groups": _Shape("groups", 1, None),
}


@dataclass(frozen=True, slots=True)
class Source:
    """A file or data set, and what its rows mean.

    Attributes:
        place: a path or `hub:owner/name`; see `read_records`.
        kind: `texts`, one a row; `pairs` of alike texts; `triplets` of an anchor, a text like it and one or more
            unlike it; `ranked`, a text and two or more others, from the most to the least like it; `scored`, two
            texts and how alike they are, on any scale; `labelled`, two texts and whether they are alike; `groups` of
            two or more texts that are all alike.
        columns: where these stand, in this order, score or label last. Without any: `text`; or `sentence1`,
            `sentence2` and `score` or `label`; or, where these are not there, the first columns; of `ranked` and
            `groups` all.
        weight: how much the source counts beside others, above 0.
        labels: of `labelled`, each label as the file writes it to a number from 0 to 1; a row with another label is
            left out. Without any, the labels are 0, 1, true and false.
        limit: how many rows are read, from the first on; None for all.
        folder: of a file that stands for it with others; their rows are drawn as if they stood in one file.

    Raises:
        RecipeError: a value outside its range, or columns that don't fit the kind.
    """

    place: str
    kind: Kind
    columns: tuple[str, ...] = ()
    weight: float = 1.0
    labels: Mapping[str, float] = field(default_factory=dict)
    limit: int | None = None
    folder: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise RecipeError(f"{self.place}: kind {self.kind!r} is unknown: allowed are {', '.join(KINDS)}")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise RecipeError(f"{self.place}: weight is {self.weight}, expected a finite number above 0")
        if self.limit is not None and self.limit < 1:
            raise RecipeError(f"{self.place}: limit is {self.limit}, expected at least 1, or None for all rows")
        self._check_columns()
        self._check_labels()

    def _check_columns(self) -> None:
        if isinstance(self.columns, str):
            raise RecipeError(f"{self.place}: columns is the string {self.columns!r}: write ({self.columns!r},)")
        shape = _SHAPES[self.kind]
        count = len(self.columns)
        if count and not shape.fewest <= count <= (shape.most or count):
            expected = f"{shape.fewest}" if shape.most else f"at least {shape.fewest}"
            raise RecipeError(f"{self.place}: {count} columns are named, {self.kind} have {expected}")
        if len(set(self.columns)) < count:
            raise RecipeError(f"{self.place}: a column is named twice in {self.columns}, expected each once")

    def _check_labels(self) -> None:
        if self.labels and self.kind != "labelled":
            raise RecipeError(f"{self.place}: {self.kind} have no labels: leave labels out, or name the kind labelled")
        for label, value in self.labels.items():
            if not 0 <= value <= 1:
                raise RecipeError(f"{self.place}: label {label!r} stands for {value}, expected a number from 0 to 1")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source.

    Attributes:
        texts: stripped, none empty: one; two; anchor, positive and negatives; or the different texts of a group.
        value: the score as the file has it, or what the label stands for, 0 to 1; else None.
        line: where the row begins; see `Record`.
    """

    texts: tuple[str, ...]
    value: float | None
    line: int


def read_rows(source: Source, bad: BadRows | None = None) -> Iterator[Row]:
    """The rows of a source, in their order.

    Args:
        bad: takes the rows that can't be used; without it the first one is an error. A row whose label stands for
            nothing is left out without being one.

    Raises:
        DataError: see `read_records`; also a missing column, a row that can't be used, or not a single one that can.
        ExtraMissing: see `read_records`.
    """
    bad = BadRows() if bad is None else bad
    columns = source.columns
    found = 0
    strange: dict[str, None] = {}
    for record in read_records(source.place, bad, columns=columns):
        columns = columns or _choose_columns(source, record)
        label = _strange_label(source, record, columns)
        if label is not None:
            if len(strange) < _LABELS_TOLD:
                strange[label] = None
            continue
        try:
            row = _read_row(source, record, columns)
        except DataError as error:
            bad.refuse(source.place, record.line, str(error))
            continue
        found += 1
        yield row
        if found == source.limit:
            return
    if not found:
        raise _nothing_found(source, bad.counts[source.place], list(strange))


def _choose_columns(source: Source, record: Record) -> tuple[str, ...]:
    shape = _SHAPES[source.kind]
    header = tuple(record.cells)
    if source.kind == "groups":
        return ()  # whatever columns each row has
    if shape.usual and set(shape.usual) <= set(header):
        return shape.usual
    if len(header) < shape.fewest:
        raise DataError(
            f"{source.place}, line 1: the header is {list(header)}, expected at least {shape.fewest} columns "
            f"for {shape.called}"
        )
    return header if source.kind == "ranked" else header[: shape.fewest]


def _read_row(source: Source, record: Record, columns: Sequence[str]) -> Row:
    cells = record.cells
    match source.kind:
        case "groups":
            return Row(_read_group(cells, columns or tuple(cells)), None, record.line)
        case "scored":
            value = _read_score(cells, columns[-1])
        case "labelled":
            value = _read_label(cells, columns[-1], source.labels)
        case _:
            return Row(tuple(_read_text(cells, name) for name in columns), None, record.line)
    return Row(tuple(_read_text(cells, name) for name in columns[:-1]), value, record.line)


def _read_text(cells: Mapping[str, object], column: str) -> str:
    cell = cells.get(column)
    text = cell.strip() if isinstance(cell, str) else ""
    if not text:
        raise _wrong(cells, column, "a text")
    _check_unicode(text, column)
    return text


def _read_group(cells: Mapping[str, object], columns: Sequence[str]) -> tuple[str, ...]:
    texts: dict[str, None] = {}
    for column in columns:
        cell = cells.get(column)
        for item in cell if isinstance(cell, list) else [cell]:
            if not isinstance(item, str | None):
                raise _wrong(cells, column, "a text, or a list of texts")
            if item and item.strip():
                _check_unicode(item, column)
                texts[item.strip()] = None
    if len(texts) < 2:
        raise DataError(f"{len(texts)} different texts in {', '.join(map(repr, columns))}, expected at least 2")
    return tuple(texts)


def _read_score(cells: Mapping[str, object], column: str) -> float:
    cell = cells.get(column)
    value = math.nan
    if isinstance(cell, str | int | float | Decimal) and not isinstance(cell, bool):
        try:
            value = float(cell)
        except (ValueError, OverflowError):
            pass
    if not math.isfinite(value):
        raise _wrong(cells, column, "a number such as 3.5")
    return value


def _read_label(cells: Mapping[str, object], column: str, labels: Mapping[str, float]) -> float:
    label = _written(cells.get(column))
    value = labels.get(label) if labels else _TRUTHS.get(label.lower())
    if value is None:
        known = ", ".join(map(repr, labels)) if labels else "0, 1, true or false, or labels that say what it stands for"
        raise _wrong(cells, column, known)
    return float(value)


def _strange_label(source: Source, record: Record, columns: Sequence[str]) -> str | None:
    """The label, where it stands for nothing, so that the row is left out."""
    if not source.labels:
        return None
    label = _written(record.cells.get(columns[-1]))
    return label if label and label not in source.labels else None


def _written(cell: object) -> str:
    """A label as a text file has it: 1 for the number, true for the truth, nothing for nothing."""
    match cell:
        case None:
            return ""
        case bool():
            return str(cell).lower()
        case float() if cell.is_integer():
            return str(int(cell))
        case _:
            return str(cell).strip()


def _check_unicode(text: str, column: str) -> None:
    if not is_unicode(text):
        raise DataError(f"column {column!r} has a lone surrogate, expected valid Unicode: write the file anew")


def _wrong(cells: Mapping[str, object], column: str, expected: str) -> DataError:
    cell = cells.get(column)
    if column not in cells:
        return DataError(f"column {column!r} is missing from {list(cells)}, expected {expected}")
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return DataError(f"column {column!r} is empty, expected {expected}")
    return DataError(f"column {column!r} is {cell!r:.60}, expected {expected}")


def _nothing_found(source: Source, left_out: int, strange: Sequence[str]) -> DataError:
    called = _SHAPES[source.kind].called
    if strange:
        return DataError(
            f"{source.place} holds 0 {called}: its labels are {', '.join(map(repr, strange))} and the like, "
            f"expected one of {', '.join(map(repr, source.labels))}"
        )
    return DataError(f"{source.place} holds 0 {called}, and {left_out} rows that can't be used: expected at least one")
