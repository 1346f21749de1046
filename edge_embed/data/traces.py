"""Power traces: CSV files that say how a device fares over a day."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

from edge_embed_runtimes.choose.simulate import Moment
from edge_embed_runtimes.device.probe import PowerSource, PowerState
from edge_embed_runtimes.errors import TraceError

COLUMNS = ("seconds", "source", "battery_percent", "saver", "throttled", "pace", "texts_per_s")
"""Each row holds until the next one; the last one only ends the trace. An empty cell means none, no or 1."""
_SOURCES: tuple[PowerSource, ...] = get_args(PowerSource)
_TRUTHS = {"": False, "no": False, "0": False, "yes": True, "1": True}


def read_trace(path: Path) -> tuple[Moment, ...]:
    """Read a trace with a header out of `COLUMNS`, of which `seconds` and `source` must be there.

    Raises:
        TraceError: the file can't be read; its line and column where a value is not allowed.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            header = [name.strip() for name in rows.fieldnames or ()]
            unknown = sorted(set(header) - set(COLUMNS))
            if unknown or not {"seconds", "source"} <= set(header):
                raise TraceError(
                    f"{path} has the columns {', '.join(header) or 'of an empty file'}: "
                    f"allowed are {', '.join(COLUMNS)}, and the first two must be there"
                )
            rows.fieldnames = header
            return tuple(_moments(path, rows))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path} can't be read ({error}): name a CSV file") from error


def _moments(path: Path, rows: "csv.DictReader[str]") -> Iterator[Moment]:
    for row in rows:
        cells = {name: (row.get(name) or "").strip() for name in COLUMNS}
        try:
            yield _moment(cells)
        except TraceError as error:
            raise TraceError(f"{path}, line {rows.line_num}: {error}") from None


def _moment(cells: Mapping[str, str]) -> Moment:
    source = next((known for known in _SOURCES if known == cells["source"]), None)
    if source is None:
        raise TraceError(f"source {cells['source']!r}: allowed are {', '.join(_SOURCES)}")
    charge = _number(cells, "battery_percent", most=100)
    pace, rate = _number(cells, "pace"), _number(cells, "texts_per_s")
    if pace == 0:
        raise TraceError("pace '0': allowed is a number above 0")
    return Moment(
        at_s=_number(cells, "seconds") or 0.0,
        power=PowerState(source, charge, saver=_truth(cells, "saver"), throttled=_truth(cells, "throttled")),
        pace=1.0 if pace is None else pace,
        texts_per_s=1.0 if rate is None else rate,
    )


def _number(cells: Mapping[str, str], name: str, most: float = 1e9) -> float | None:
    """The value of a cell; None for an empty one."""
    text = cells[name]
    if not text and name != "seconds":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise TraceError(f"{name} {text!r}: allowed is a number from 0 to {most:g}")
    return value


def _truth(cells: Mapping[str, str], name: str) -> bool:
    if cells[name].lower() not in _TRUTHS:
        raise TraceError(f"{name} {cells[name]!r}: allowed are yes and no")
    return _TRUTHS[cells[name].lower()]
