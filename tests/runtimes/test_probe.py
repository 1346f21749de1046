"""What the device says of itself, read from recorded trees of `/proc` and `/sys`."""

import os
from pathlib import Path

import pytest

from edge_embed_runtimes.device.probe import PowerState, read_device, read_power, read_temperature_c, usable_threads

X86 = """processor\t: 0
model name\t: Intel(R) Core(TM) Ultra 7 155H
flags\t\t: fpu sse2 avx2 avx_vnni avx512fake

processor\t: 1
model name\t: Intel(R) Core(TM) Ultra 7 155H
flags\t\t: fpu sse2 avx2 avx_vnni avx512fake
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nCPU implementer\t: 0x41\n"


def record(root: Path, tree: dict[str, str]) -> Path:
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def supply(name: str, **files: str) -> dict[str, str]:
    return {f"sys/class/power_supply/{name}/{file}": text for file, text in files.items()}


def cooler(name: str, kind: str, state: str) -> dict[str, str]:
    return {f"sys/class/thermal/{name}/type": kind, f"sys/class/thermal/{name}/cur_state": state}


def profile(name: str) -> dict[str, str]:
    return {"sys/firmware/acpi/platform_profile": name}


AC_ON, AC_OFF = supply("AC", type="Mains", online="1"), supply("AC", type="Mains", online="0")
DRAINING = supply("BAT0", type="Battery", status="Discharging", capacity="42")
CHARGING = supply("BAT0", type="Battery", status="Charging", capacity="80")
MOUSE = supply("hid0", type="Battery", scope="Device", status="Discharging", capacity="7")


@pytest.mark.parametrize(
    ("tree", "state"),
    [
        ({}, PowerState("unknown")),
        (AC_ON, PowerState("mains")),
        (AC_OFF, PowerState("unknown")),
        (AC_OFF | DRAINING, PowerState("battery", 42.0)),
        (DRAINING, PowerState("battery", 42.0)),
        (AC_ON | CHARGING, PowerState("mains", 80.0)),
        (CHARGING, PowerState("mains", 80.0)),
        (AC_ON | DRAINING, PowerState("mains", 42.0)),
        (supply("usb", type="USB", online="1") | DRAINING, PowerState("mains", 42.0)),
        (AC_ON | MOUSE, PowerState("mains")),
        (MOUSE, PowerState("unknown")),
        (
            DRAINING | supply("BAT1", type="Battery", status="Full", capacity="100"),
            PowerState("battery", 71.0),
        ),
        (supply("BAT0", type="Battery", status="Discharging"), PowerState("battery", None)),
        (supply("BAT0", type="Battery", status="Discharging", capacity="?"), PowerState("battery", None)),
        (supply("BAT0", type="Battery", status="Discharging", capacity="255"), PowerState("battery", None)),
        (supply("BAT0", type="Battery", status="Discharging", capacity="-5"), PowerState("battery", None)),
        (supply("BAT0"), PowerState("unknown")),
        (profile("low-power"), PowerState(saver=True)),
        (profile("quiet"), PowerState(saver=True)),
        (profile("balanced"), PowerState()),
        (cooler("cooling_device0", "Processor", "3"), PowerState(throttled=True)),
        (cooler("cooling_device0", "Processor", "0"), PowerState()),
        (cooler("cooling_device0", "Fan", "3"), PowerState()),
        (
            cooler("cooling_device0", "Processor", "0") | cooler("cooling_device1", "Processor", "1"),
            PowerState(throttled=True),
        ),
    ],
)
def test_power(tmp_path, tree, state):
    assert read_power(record(tmp_path, tree)) == state


@pytest.mark.parametrize("status", ["Not charging", "Unknown"])
def test_an_unplugged_battery_of_unclear_state_is_not_mains(tmp_path, status):
    tree = AC_OFF | supply("BAT0", type="Battery", status=status, capacity="50")
    assert read_power(record(tmp_path, tree)).source != "mains"


def test_an_x86_device(tmp_path):
    device = read_device(
        record(tmp_path, {"proc/cpuinfo": X86, "proc/meminfo": "MemTotal:  16384000 kB\nMemFree: 1 kB"})
    )
    assert device.cpu == "Intel(R) Core(TM) Ultra 7 155H"
    assert device.features == ("avx2", "avx_vnni")
    assert device.memory_mb == 16_000
    assert device.cores >= device.threads >= 1


def test_an_arm_device(tmp_path):
    device = read_device(record(tmp_path, {"proc/cpuinfo": ARM}))
    assert device.features == ("asimddp", "i8mm")
    assert device.cpu and device.memory_mb is None


def test_a_device_that_tells_nothing(tmp_path):
    device = read_device(tmp_path)
    assert device.features == () and device.memory_mb is None and device.cpu and device.system


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        (None, 8),
        ("max 100000", 8),
        ("200000 100000", 2),
        ("350000 100000", 3),
        ("50000 100000", 1),
        ("6400000 100000", 8),
        ("nonsense", 8),
        ("100000 0", 8),
    ],
)
def test_threads_are_those_of_affinity_and_quota(tmp_path, monkeypatch, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    tree = {} if quota is None else {"sys/fs/cgroup/cpu.max": quota}
    assert usable_threads(record(tmp_path, tree)) == expected


def test_threads_where_affinity_is_unknown(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert usable_threads(tmp_path) == 4


@pytest.mark.parametrize(
    ("tree", "cpu_limit", "memory_limit_mb"),
    [
        ({}, None, None),
        ({"sys/fs/cgroup/cpu.max": "max 100000", "sys/fs/cgroup/memory.max": "max"}, None, None),
        ({"sys/fs/cgroup/cpu.max": "150000 100000", "sys/fs/cgroup/memory.max": "1073741824"}, 1.5, 1024),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 2.5, None),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, None, None),
        (
            {
                "proc/self/cgroup": "1:cpu:/old\n0::/app.slice/one",
                "sys/fs/cgroup/app.slice/one/cpu.max": "400000 100000",
                "sys/fs/cgroup/app.slice/cpu.max": "300000 100000",
                "sys/fs/cgroup/app.slice/one/memory.max": "536870912",
                "sys/fs/cgroup/app.slice/memory.max": "max",
                "sys/fs/cgroup/other/cpu.max": "100000 100000",
            },
            3.0,
            512,
        ),
    ],
    ids=["none", "max", "root", "version-1", "version-1-none", "nested"],
)
def test_the_limits_of_a_container(tmp_path, tree, cpu_limit, memory_limit_mb):
    device = read_device(record(tmp_path, tree))
    assert (device.cpu_limit, device.memory_limit_mb) == (cpu_limit, memory_limit_mb)


@pytest.mark.parametrize(
    ("tree", "kinds"),
    [
        ({}, (None, None)),
        ({"sys/devices/cpu_core/cpus": "0-11", "sys/devices/cpu_atom/cpus": "12-19,22-23"}, (12, 10)),
        ({"sys/devices/cpu_core/cpus": "0-11"}, (None, None)),
        ({"sys/devices/cpu_core/cpus": "0-11", "sys/devices/cpu_atom/cpus": "all"}, (None, None)),
        ({f"sys/devices/system/cpu/cpu{n}/cpu_capacity": "446" if n < 4 else "1024" for n in range(6)}, (2, 4)),
        ({f"sys/devices/system/cpu/cpu{n}/cpu_capacity": str(c) for n, c in enumerate((300, 800, 1024))}, (2, 1)),
        ({f"sys/devices/system/cpu/cpu{n}/cpu_capacity": "1024" for n in range(4)}, (None, None)),
    ],
    ids=["none", "intel", "one-unit", "nonsense", "arm", "three-kinds", "alike"],
)
def test_cores_of_two_kinds(tmp_path, tree, kinds):
    device = read_device(record(tmp_path, tree))
    assert (device.performance_cores, device.efficiency_cores) == kinds


def zone(number: int, kind: str, temperature: str) -> dict[str, str]:
    place = f"sys/class/thermal/thermal_zone{number}"
    return {f"{place}/type": kind, f"{place}/temp": temperature}


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({}, None),
        (cooler("cooling_device0", "Processor", "0"), None),
        (zone(0, "acpitz", "27800") | zone(1, "x86_pkg_temp", "64000") | zone(2, "pch", "91000"), 64.0),
        (zone(0, "CPU-therm", "51500") | zone(1, "cpu-1", "53000"), 53.0),
        (zone(0, "acpitz", "27800") | zone(1, "iwlwifi", "-5000"), 27.8),
        (zone(0, "x86_pkg_temp", "hot"), None),
    ],
    ids=["none", "cooler", "package", "two", "unnamed", "nonsense"],
)
def test_the_temperature_of_the_processor(tmp_path, tree, expected):
    assert read_temperature_c(record(tmp_path, tree)) == expected
