"""Energy readers: what the device itself reports, or the reason why it reports nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_embed_runtimes.errors import ProfileError


class EnergyReader(Protocol):
    """A counter of the energy that the device has used."""

    @property
    def name(self) -> str:
        """Short name: `rapl`, `jetson`, `battery`, `powermetrics` or `emi`."""

    @property
    def renews_s(self) -> float:
        """How often the device renews what it reports, in seconds; a measurement takes several times as long."""

    def read_mj(self) -> float:
        """Millijoules since some fixed moment.

        The value is that of the moment this returns, so take the time of an interval's ends after the calls.

        Raises:
            ProfileError: the device tells its energy no longer, or the reader is closed.
        """

    def close(self) -> None:
        """End the reader's threads and processes; a second call does nothing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one known way to read energy.

    Attributes:
        name: name of the reader, there or not.
        reader: None where it can't work here.
        because: what the reader reads, or why there is none.
    """

    name: str
    reader: EnergyReader | None
    because: str


def find_readers(root: Path = Path("/"), system: str | None = None) -> tuple[Finding, ...]:
    """Every reader known for this operating system, the most exact first.

    It costs a few reads of small files and starts nothing: a reader's thread or process begins at its first `read_mj`.

    Args:
        root: where `/sys` and `/usr` stand.
        system: `Linux`, `Darwin` or `Windows`, as `platform.system()` says; None for this one.
    """
    import platform  # loads subprocess

    match system or platform.system():
        case "Linux":
            from edge_embed_runtimes.device.energy import battery, jetson, rapl

            return rapl.find(root), jetson.find(root), battery.find(root)
        case "Darwin":
            from edge_embed_runtimes.device.energy import powermetrics

            return (powermetrics.find(root),)
        case "Windows":
            from edge_embed_runtimes.device.energy import emi

            return (emi.find(),)
        case _:
            return ()


def find_reader(root: Path = Path("/"), system: str | None = None) -> EnergyReader | None:
    """The first reader that works here; `find_readers` says why where there is none."""
    return next((found.reader for found in find_readers(root, system) if found.reader), None)


def attempt(name: str, what: str, denied: str, find: Callable[[], Finding]) -> Finding:
    """What `find` finds, or a finding that says why it failed.

    Args:
        what: what the reader `name` reads.
        denied: what to say of `what` where permission is missing: who may read it, and the way out.
        find: makes the reader and reads once with it; raises ProfileError with the reason where there is none.
    """
    try:
        return find()
    except ProfileError as error:
        return Finding(name, None, str(error))
    except PermissionError:
        return Finding(name, None, f"{what} {denied}")
    except (OSError, ValueError) as error:
        return Finding(name, None, f"{what} can't be read: {error}")


def unreadable(what: str, error: Exception) -> ProfileError:
    """The error of a reader that worked before."""
    return ProfileError(f"{what} can't be read any more: {error}; `edge-embed devices` lists the readers that work")


def read_text(path: Path) -> str:
    """A small file's text without its line end; empty where there is no file."""
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def read_number(path: Path) -> int:
    """The whole number in a file.

    Raises:
        OSError: the file can't be read.
        ValueError: it holds something else.
    """
    text = path.read_text(encoding="utf-8").strip()
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{path} holds {text!r}, not a whole number") from None
