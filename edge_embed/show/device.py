"""What there is to run on."""

from collections.abc import Mapping, Sequence

from edge_embed.show.table import print_table
from edge_embed_runtimes.device.energy import Finding
from edge_embed_runtimes.device.probe import Device, PowerState
from edge_embed_runtimes.engines import EngineDevice, EngineFacts
from edge_embed_runtimes.manifest import Engine


def print_device(
    device: Device,
    power: PowerState,
    temperature_c: float | None,
    engines: Mapping[Engine, EngineFacts],
    readers: Sequence[Finding],
) -> None:
    """Print what there is to run on, and what can't be read."""
    battery = "none" if power.battery_percent is None else f"{power.battery_percent:.0f} %"
    rows = [
        ["processor", device.cpu],
        ["system", device.system],
        ["features", ", ".join(device.features) or "none known"],
        ["cores", _cores(device)],
        ["threads", f"{device.threads} may be used" + _limit(device.cpu_limit, "{:g} cores")],
        ["memory", _gigabytes(device.memory_mb) + _limit(device.memory_limit_mb, "{} MB")],
        ["power", power.source],
        ["battery", battery],
        ["saver, throttled", f"{_yes(power.saver)}, {_yes(power.throttled)}"],
        ["temperature", "not told" if temperature_c is None else f"{temperature_c:.0f} °C"],
    ]
    rows += [[f"engine {name}", words] for name, facts in engines.items() for words in _engine(facts)]
    rows += [[f"energy {found.name}", ("" if found.reader else "no: ") + found.because] for found in readers]
    print_table("this device", ["", ""], rows)


def _engine(facts: EngineFacts) -> list[str]:
    if facts.version is None:
        return [f"not installed: {facts.hint}"]
    return [f"{facts.version} on {_device(device)}" for device in facts.devices]


def _device(device: EngineDevice) -> str:
    full_name = f" ({device.full_name})" if device.full_name else ""
    return f"{device.name}{full_name}" + (f": {', '.join(device.capabilities)}" if device.capabilities else "")


def _cores(device: Device) -> str:
    if device.performance_cores is None:
        return str(device.cores)
    return f"{device.cores}: {device.performance_cores} for performance, {device.efficiency_cores} for efficiency"


def _limit(value: float | None, form: str) -> str:
    return "" if value is None else f", limited to {form.format(value)} by the cgroup"


def _gigabytes(megabytes: int | None) -> str:
    return "unknown" if megabytes is None else f"{megabytes / 1024:.1f} GB"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
