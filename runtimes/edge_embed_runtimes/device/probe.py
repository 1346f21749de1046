"""What this device is: processor, threads we may use, power source. Reads small files only."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

_FULL_PERCENT = 100
_CPU_ZONES = ("x86_pkg", "cpu", "k10temp", "soc")
PowerSource = Literal["mains", "battery", "unknown"]
_CPU_FEATURES = (
    *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimddp", "i8mm", "bf16", "sve"),
)


@dataclass(frozen=True, slots=True)
class PowerState:
    """Where the power comes from now.

    Attributes:
        battery_percent: charge, 0 to 100; None without a battery.
        saver: the system was asked to save power.
        throttled: the processor reports that heat slows it down.
    """

    source: PowerSource = "unknown"
    battery_percent: float | None = None
    saver: bool = False
    throttled: bool = False


@dataclass(frozen=True, slots=True)
class Device:
    """The processor, and how much of it this process may use.

    Attributes:
        cores: logical ones, as the system counts them.
        threads: how many of them this process may keep busy.
        memory_mb: of the device; None where the system does not tell.
        performance_cores, efficiency_cores: of `cores`, where they are of two kinds; None where they are alike.
        cpu_limit: of this process's cgroup, in cores; None without one.
        memory_limit_mb: of this process's cgroup; None without one.
    """

    cpu: str
    features: tuple[str, ...]
    cores: int
    threads: int
    memory_mb: int | None
    system: str
    performance_cores: int | None = None
    efficiency_cores: int | None = None
    cpu_limit: float | None = None
    memory_limit_mb: int | None = None


def read_device(root: Path = Path("/")) -> Device:
    """Describe this device; `root` is where `/proc` and `/sys` stand."""
    cpuinfo = _read(root / "proc/cpuinfo")
    fields = dict(_split(line) for line in cpuinfo.splitlines() if ":" in line)
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    memory = dict(_split(line) for line in _read(root / "proc/meminfo").splitlines() if ":" in line).get("MemTotal")
    performance, efficiency = _kinds_of_cores(root)
    return Device(
        cpu=fields.get("model name") or platform.processor() or platform.machine(),
        features=tuple(feature for feature in _CPU_FEATURES if feature in flags),
        cores=os.cpu_count() or 1,
        threads=usable_threads(root),
        memory_mb=int(memory.split()[0]) // 1024 if memory else None,
        system=f"{platform.system()} {platform.machine()}",
        performance_cores=performance,
        efficiency_cores=efficiency,
        cpu_limit=_cpu_limit(root),
        memory_limit_mb=_memory_limit_mb(root),
    )


def usable_threads(root: Path = Path("/")) -> int:
    """Threads this process may keep busy: its affinity mask, and the quota of its cgroup, rounded down."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = _cpu_limit(root)
    return max(1, allowed if limit is None else min(allowed, int(limit)))


def read_temperature_c(root: Path = Path("/")) -> float | None:
    """The hottest thermal zone of the processor now, or of all where none says that it is; None where none tells."""
    zones = [zone for zone in _folders(root / "sys/class/thermal") if zone.name.startswith("thermal_zone")]
    of_processor = [zone for zone in zones if any(name in _read(zone / "type").lower() for name in _CPU_ZONES)]
    found = [int(text) for zone in of_processor or zones if (text := _read(zone / "temp")).lstrip("-").isdigit()]
    return max(found) / 1000 if found else None


def read_power(root: Path = Path("/")) -> PowerState:
    """The power state now; what can't be read counts as unknown, off or none."""
    online: list[bool] = []
    charges: list[float] = []
    batteries: list[str] = []
    for supply in _folders(root / "sys/class/power_supply"):
        kind = _read(supply / "type")
        if kind == "Battery" and _read(supply / "scope") != "Device":
            batteries.append(_read(supply / "status"))
            charge = _read(supply / "capacity")
            charges += [float(charge)] if charge.isdigit() and float(charge) <= _FULL_PERCENT else []
        elif kind in ("Mains", "USB"):
            online.append(_read(supply / "online") == "1")
    return PowerState(
        source=_power_source(online, batteries),
        battery_percent=sum(charges) / len(charges) if charges else None,
        saver=_read(root / "sys/firmware/acpi/platform_profile") in ("low-power", "quiet"),
        throttled=any(
            _read(cooler / "type") == "Processor" and _read(cooler / "cur_state") not in ("", "0")
            for cooler in _folders(root / "sys/class/thermal")
        ),
    )


def _power_source(online: list[bool], batteries: list[str]) -> PowerSource:
    if any(online):
        return "mains"
    if "Discharging" in batteries or (online and batteries):
        return "battery"
    return "mains" if batteries else "unknown"


def _kinds_of_cores(root: Path) -> tuple[int | None, int | None]:
    """Performance and efficiency cores: of Intel's by the two units that count events, of Arm's by their capacity."""
    units = [_count(_read(root / "sys/devices" / unit / "cpus")) for unit in ("cpu_core", "cpu_atom")]
    if all(units):
        return units[0], units[1]
    cores = (root / "sys/devices/system/cpu").glob("cpu[0-9]*")
    capacities = [int(text) for core in cores if (text := _read(core / "cpu_capacity")).isdigit()]
    if len(set(capacities)) < 2:
        return None, None
    slowest = capacities.count(min(capacities))
    return len(capacities) - slowest, slowest


def _count(ranges: str) -> int:
    """How many numbers a list such as `0-3,8` names; 0 where it is none."""
    count = 0
    for part in filter(None, ranges.split(",")):
        first, _, last = part.partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            return 0
        count += int(last or first) - int(first) + 1
    return count


def _cgroups(root: Path) -> list[Path]:
    """The folder of this process's cgroup and of those above it; what is set in any of them holds."""
    top = root / "sys/fs/cgroup"
    own = [line[3:].strip("/") for line in _read(root / "proc/self/cgroup").splitlines() if line.startswith("0::")]
    folder = top.joinpath(*PurePosixPath(own[0]).parts) if own else top
    return [folder, *(above for above in folder.parents if above.is_relative_to(top))]


def _cpu_limit(root: Path) -> float | None:
    pairs = [_read(folder / "cpu.max").split() for folder in _cgroups(root)]
    pairs.append([_read(root / "sys/fs/cgroup/cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period")])
    limits = [int(p[0]) / int(p[1]) for p in pairs if len(p) == 2 and p[0].isdigit() and p[1].isdigit() and int(p[1])]
    return min(limits, default=None)


def _memory_limit_mb(root: Path) -> int | None:
    limits = [int(text) >> 20 for folder in _cgroups(root) if (text := _read(folder / "memory.max")).isdigit()]
    return min(limits, default=None)


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _split(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return key.strip(), value.strip()
