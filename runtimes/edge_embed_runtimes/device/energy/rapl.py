"""Package energy of Intel and AMD processors, from the counters of Linux powercap."""

from pathlib import Path

from edge_embed_runtimes.device.energy import Finding, attempt, read_number, read_text, unreadable
from edge_embed_runtimes.errors import ProfileError

_WHAT = "RAPL package counters"
_DENIED = "are readable by root alone: run as root, or allow reading energy_uj"


class RaplReader:
    """Energy of all packages from powercap (`energy_uj`), wrap-around included.

    Args:
        zones: powercap folders, one a package.

    Raises:
        OSError: a counter can't be read.
        ValueError: a counter is no number.
    """

    name = "rapl"
    renews_s = 0.001

    def __init__(self, zones: tuple[Path, ...]) -> None:
        self._zones = zones
        self._last = self._counters()
        self._limits = [read_number(zone / "max_energy_range_uj") for zone in zones]
        self._total_uj = 0

    def read_mj(self) -> float:
        """Millijoules of all packages since this reader was made.

        Raises:
            ProfileError: a counter can't be read any more.
        """
        try:
            counters = self._counters()
        except (OSError, ValueError) as error:
            raise unreadable(_WHAT, error) from error
        for last, now, limit in zip(self._last, counters, self._limits, strict=True):
            self._total_uj += now - last if now >= last else now - last + limit
        self._last = counters
        return self._total_uj / 1000

    def close(self) -> None:
        """Do nothing: there is no thread and no process."""

    def _counters(self) -> list[int]:
        return [read_number(zone / "energy_uj") for zone in self._zones]


def find(root: Path) -> Finding:
    """Look for the packages' counters below `root`."""
    return attempt("rapl", _WHAT, _DENIED, lambda: _find(root))


def _find(root: Path) -> Finding:
    zones = sorted((root / "sys/class/powercap").glob("intel-rapl:?"))
    # psys is the whole board: it contains the packages
    packages = tuple(zone for zone in zones if read_text(zone / "name") != "psys")
    if not packages:
        raise ProfileError("no RAPL counters (sys/class/powercap) on this device")
    return Finding("rapl", RaplReader(packages), f"{_WHAT}, {len(packages)} in all")
