"""Energy readers: what the device itself reports, or nothing."""

from pathlib import Path
from typing import Protocol


class EnergyReader(Protocol):
    """A counter of the energy that the device has used."""

    name: str

    def read_mj(self) -> float:
        """Millijoules since some fixed moment."""


class RaplReader:
    """Intel and AMD package energy from Linux powercap (`energy_uj`), wrap-around included.

    Args:
        zones: powercap folders, one a package.
    """

    name = "rapl"

    def __init__(self, zones: tuple[Path, ...]) -> None:
        self._zones = zones
        self._last = [self._counter(zone) for zone in zones]
        self._limit = [int((zone / "max_energy_range_uj").read_text()) for zone in zones]
        self._total_uj = 0

    def read_mj(self) -> float:
        """Millijoules of all packages since this reader was made."""
        for index, zone in enumerate(self._zones):
            now = self._counter(zone)
            step = now - self._last[index]
            self._total_uj += step if step >= 0 else step + self._limit[index]
            self._last[index] = now
        return self._total_uj / 1000

    @staticmethod
    def _counter(zone: Path) -> int:
        return int((zone / "energy_uj").read_text())


def find_reader(root: Path = Path("/")) -> tuple[EnergyReader | None, str]:
    """The first reader that works here, and the reason where there is none."""
    zones = tuple(sorted((root / "sys/class/powercap").glob("intel-rapl:?")))
    if not zones:
        return None, "no RAPL counters (sys/class/powercap) on this device"
    try:
        return RaplReader(zones), "RAPL package counters"
    except PermissionError:
        return None, "RAPL counters are readable by root alone: run as root, or allow reading energy_uj"
    except (OSError, ValueError) as error:
        return None, f"RAPL counters can't be read: {error}"
