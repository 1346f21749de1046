"""Board power of NVIDIA Jetson, from its INA3221 monitors."""

from dataclasses import dataclass
from pathlib import Path

from edge_embed_runtimes.device.energy import Finding, attempt, read_number, read_text
from edge_embed_runtimes.device.energy.sampled import SampledReader
from edge_embed_runtimes.errors import ProfileError

_WHAT = "INA3221 power monitor"
_DENIED = "is readable by root alone: run as root, or allow reading in*_input and curr*_input"
_CHANNELS = (1, 2, 3)
_BOARD = ("VDD_IN", "POM_5V_IN")
_NO_RAIL = ("", "NC", "sum of shunt voltages")


@dataclass(frozen=True, slots=True)
class Rail:
    """One supply line of the board: a channel of a monitor.

    Attributes:
        label: what it feeds, as the board's device tree names it.
        chip: hwmon folder of the monitor.
        channel: 1, 2 or 3.
    """

    label: str
    chip: Path
    channel: int

    def power_mw(self) -> float:
        """Milliwatts now: millivolts times milliamperes over 1000.

        Raises:
            OSError: the monitor does not answer.
            ValueError: it answers with no number.
        """
        voltage_mv = read_number(self.chip / f"in{self.channel}_input")
        return voltage_mv * read_number(self.chip / f"curr{self.channel}_input") / 1000


def board_rails(root: Path) -> tuple[Rail, ...]:
    """The rail that feeds the whole board; where none is labelled so, all rails, which together may miss a part."""
    rails = [rail for chip in _chips(root) for rail in _rails(chip)]
    return tuple(rail for rail in rails if rail.label in _BOARD) or tuple(rails)


def find(root: Path) -> Finding:
    """Look for the board's power monitors below `root`."""
    return attempt("jetson", _WHAT, _DENIED, lambda: _find(root))


def _find(root: Path) -> Finding:
    rails = board_rails(root)
    if not rails:
        raise ProfileError("no INA3221 power monitor (sys/bus/i2c/drivers/ina3221) on this device")

    def power_mw() -> float:
        return sum(rail.power_mw() for rail in rails)

    power_mw()
    what = f"{_WHAT}, {' + '.join(rail.label for rail in rails)}"
    return Finding("jetson", SampledReader("jetson", what, power_mw), what)


def _chips(root: Path) -> list[Path]:
    by_driver = sorted((root / "sys/bus/i2c/drivers/ina3221").glob("*/hwmon/hwmon*"))
    by_name = sorted((root / "sys/class/hwmon").glob("hwmon*"))
    return by_driver or [chip for chip in by_name if read_text(chip / "name") == "ina3221"]


def _rails(chip: Path) -> list[Rail]:
    rails = [Rail(read_text(chip / f"in{channel}_label"), chip, channel) for channel in _CHANNELS]
    return [rail for rail in rails if rail.label not in _NO_RAIL]
