"""What this device is: processor, threads we may use, power source. Reads small files only."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_FULL_PERCENT = 100
PowerSource = Literal["mains", "battery", "unknown"]
_CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm")


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
    """The processor, and how much of it this process may use."""

    cpu: str
    features: tuple[str, ...]
    cores: int
    threads: int
    memory_mb: int | None
    system: str


def read_device(root: Path = Path("/")) -> Device:
    """Describe this device; `root` is where `/proc` and `/sys` stand."""
    cpuinfo = _read(root / "proc/cpuinfo")
    fields = dict(_split(line) for line in cpuinfo.splitlines() if ":" in line)
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    memory = dict(_split(line) for line in _read(root / "proc/meminfo").splitlines() if ":" in line).get("MemTotal")
    return Device(
        cpu=fields.get("model name") or platform.processor() or platform.machine(),
        features=tuple(feature for feature in _CPU_FEATURES if feature in flags),
        cores=os.cpu_count() or 1,
        threads=usable_threads(root),
        memory_mb=int(memory.split()[0]) // 1024 if memory else None,
        system=f"{platform.system()} {platform.machine()}",
    )


def usable_threads(root: Path = Path("/")) -> int:
    """Threads this process may keep busy: its affinity mask, and the quota of its cgroup, rounded down."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _read(root / "sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit() and quota[1].isdigit() and int(quota[1]) > 0:
        allowed = min(allowed, int(quota[0]) // int(quota[1]))
    return max(1, allowed)


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
