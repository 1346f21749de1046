"""Energy readers of Linux in recorded trees of `/sys`, and the sum of power samples."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_embed_runtimes.device.energy import Finding, find_reader, find_readers
from edge_embed_runtimes.device.energy.battery import discharge_mw
from edge_embed_runtimes.device.energy.jetson import board_rails
from edge_embed_runtimes.device.energy.sampled import SampledReader
from edge_embed_runtimes.errors import ProfileError

I2C = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
ORIN_NANO = (("VDD_IN", 4968, 1064), ("VDD_CPU_GPU_CV", 4960, 208), ("VDD_SOC", 4968, 352))
AGX_ORIN = (("VDD_GPU_SOC", 20000, 100), ("NC", 8, 5), ("VIN_SYS_5V0", 5000, 800))


def record(root: Path, tree: dict[str, str]) -> Path:
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def zone(name: str, energy_uj: object, limit_uj: object = 1_000_000, label: str = "package-0") -> dict[str, str]:
    folder = f"sys/class/powercap/{name}"
    return {
        f"{folder}/energy_uj": str(energy_uj),
        f"{folder}/max_energy_range_uj": str(limit_uj),
        f"{folder}/name": label,
    }


def monitor(folder: str, rails: tuple[tuple[str, int, int], ...]) -> dict[str, str]:
    tree = {}
    for number, (label, voltage_mv, current_ma) in enumerate(rails, 1):
        tree[f"{folder}/in{number}_label"] = label
        tree[f"{folder}/in{number}_input"] = str(voltage_mv)
        tree[f"{folder}/curr{number}_input"] = str(current_ma)
    return tree


def supply(name: str, **files: str) -> dict[str, str]:
    return {f"sys/class/power_supply/{name}/{file}": text for file, text in files.items()}


def battery(name: str = "BAT0", status: str = "Discharging", **files: str) -> dict[str, str]:
    return supply(name, type="Battery", status=status, **files)


def found(root: Path, name: str) -> Finding:
    (finding,) = (finding for finding in find_readers(root, "Linux") if finding.name == name)
    return finding


def reason(root: Path, name: str) -> str:
    assert found(root, name).reader is None
    return found(root, name).because


def refuse(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Root reads every file, so the refusal is played."""
    read_text = Path.read_text

    def refusing(path: Path, *args: object, **kwargs: object) -> str:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refusing)


def energy_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("energy-")]


@pytest.mark.parametrize(
    ("system", "names"),
    [
        ("Linux", ("rapl", "jetson", "battery")),
        ("Darwin", ("powermetrics",)),
        ("Windows", ("emi",)),
        ("Plan 9", ()),
    ],
)
def test_an_empty_device_gives_a_reason_for_each_reader(tmp_path, system, names):
    findings = find_readers(tmp_path, system)
    assert tuple(finding.name for finding in findings) == names
    assert all(finding.reader is None and finding.because for finding in findings)
    assert find_reader(tmp_path, system) is None


def test_the_first_reader_that_works_is_taken(tmp_path):
    record(tmp_path, battery(power_now="8000000"))
    assert find_reader(tmp_path, "Linux").name == "battery"
    record(tmp_path, monitor(I2C, ORIN_NANO))
    assert find_reader(tmp_path, "Linux").name == "jetson"
    record(tmp_path, zone("intel-rapl:0", 1))
    assert find_reader(tmp_path, "Linux").name == "rapl"
    assert [finding.reader is None for finding in find_readers(tmp_path, "Linux")] == [False] * 3


def test_finding_readers_starts_no_thread(tmp_path):
    find_readers(record(tmp_path, battery(power_now="8000000") | monitor(I2C, ORIN_NANO)), "Linux")
    assert energy_threads() == []


def test_the_import_is_light():
    loads = "import sys, edge_embed_runtimes.device.energy; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, check=True)
    assert {"ctypes", "subprocess", "plistlib", "numpy"}.isdisjoint(done.stdout.split())


def test_packages_are_summed_and_their_parts_are_not(tmp_path):
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0", "intel-rapl-mmio:0", "dtpm"):
        record(tmp_path, zone(name, 5000))
    reader = found(tmp_path, "rapl").reader
    assert found(tmp_path, "rapl").because == "RAPL package counters, 2 in all"
    assert reader.read_mj() == 0
    record(tmp_path, zone("intel-rapl:0", 7000) | zone("intel-rapl:1", 6000) | zone("intel-rapl:0:0", 99_000))
    assert reader.read_mj() == 3
    assert reader.read_mj() == 3


def test_the_board_of_the_packages_is_not_added_to_them(tmp_path):
    record(tmp_path, zone("intel-rapl:0", 0) | zone("intel-rapl:1", 0, label="psys"))
    reader = found(tmp_path, "rapl").reader
    record(tmp_path, zone("intel-rapl:0", 4000) | zone("intel-rapl:1", 9000, label="psys"))
    assert reader.read_mj() == 4


def test_a_counter_that_starts_over_goes_on(tmp_path):
    reader = found(record(tmp_path, zone("intel-rapl:0", 999_000)), "rapl").reader
    readings = []
    for energy_uj in (1_000, 500_000, 100):
        record(tmp_path, zone("intel-rapl:0", energy_uj))
        readings.append(reader.read_mj())
    assert readings == [2, 501, 501 + 500.1]


def test_without_counters_the_reason_is_given(tmp_path):
    assert reason(tmp_path, "rapl") == "no RAPL counters (sys/class/powercap) on this device"
    record(tmp_path, zone("intel-rapl:0", 1, label="psys"))
    assert "no RAPL counters" in reason(tmp_path, "rapl")


@pytest.mark.parametrize(
    ("name", "file", "tree"),
    [
        ("rapl", "energy_uj", zone("intel-rapl:0", 1)),
        ("jetson", "in1_input", monitor(I2C, ORIN_NANO)),
        ("battery", "power_now", battery(power_now="1")),
    ],
)
def test_without_permission_the_way_out_is_given(tmp_path, monkeypatch, name, file, tree):
    record(tmp_path, tree)
    refuse(monkeypatch, file)
    assert "readable by root alone: run as root, or allow reading" in reason(tmp_path, name)
    assert file.removeprefix("in1") in reason(tmp_path, name)


@pytest.mark.parametrize(("energy_uj", "limit_uj"), [("", 1), ("soon", 1), (1, "")])
def test_counters_without_numbers_are_no_reader(tmp_path, energy_uj, limit_uj):
    record(tmp_path, zone("intel-rapl:0", energy_uj, limit_uj))
    assert "can't be read" in reason(tmp_path, "rapl") and "not a whole number" in reason(tmp_path, "rapl")


def test_a_missing_counter_is_no_reader(tmp_path):
    record(tmp_path, zone("intel-rapl:0", 1))
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    assert "RAPL package counters can't be read" in reason(tmp_path, "rapl")


def test_a_counter_that_goes_away_is_an_error(tmp_path):
    reader = found(record(tmp_path, zone("intel-rapl:0", 1)), "rapl").reader
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    with pytest.raises(ProfileError, match=r"can't be read any more: .*energy_uj"):
        reader.read_mj()
    reader.close()
    reader.close()


@pytest.mark.parametrize(
    ("rails", "labels", "power_mw"),
    [
        (ORIN_NANO, ("VDD_IN",), 4968 * 1.064),
        ((("POM_5V_IN", 5000, 400), ("POM_5V_GPU", 5000, 40), ("POM_5V_CPU", 5000, 80)), ("POM_5V_IN",), 2000),
        (AGX_ORIN, ("VDD_GPU_SOC", "VIN_SYS_5V0"), 2000 + 4000),
        ((("sum of shunt voltages", 1, 1), ("CPU", 1000, 3), ("", 7, 7)), ("CPU",), 3),
        ((*AGX_ORIN, ("VDD_IN", 9, 9)), ("VDD_GPU_SOC", "VIN_SYS_5V0"), 6000),
    ],
)
def test_the_rails_of_a_board(tmp_path, rails, labels, power_mw):
    found_rails = board_rails(record(tmp_path, monitor(I2C, rails)))
    assert tuple(rail.label for rail in found_rails) == labels
    assert sum(rail.power_mw() for rail in found_rails) == pytest.approx(power_mw)
    assert found(tmp_path, "jetson").because == f"INA3221 power monitor, {' + '.join(labels)}"


def test_the_total_may_be_on_another_monitor(tmp_path):
    record(tmp_path, monitor(I2C, AGX_ORIN) | monitor(I2C.replace("0040", "0041"), ORIN_NANO))
    assert [rail.label for rail in board_rails(tmp_path)] == ["VDD_IN"]


def test_monitors_are_found_by_their_name_where_the_driver_lists_none(tmp_path):
    folder = "sys/class/hwmon/hwmon1"
    record(tmp_path, monitor(folder, ORIN_NANO) | monitor("sys/class/hwmon/hwmon2", (("VDD_IN", 1, 1),)))
    assert board_rails(tmp_path) == ()
    record(tmp_path, {f"{folder}/name": "ina3221", "sys/class/hwmon/hwmon2/name": "coretemp"})
    assert [str(rail.chip.relative_to(tmp_path)) for rail in board_rails(tmp_path)] == [folder]
    record(tmp_path, monitor(I2C, ORIN_NANO))
    assert len(board_rails(tmp_path)) == 1


def test_without_a_monitor_the_reason_is_given(tmp_path):
    assert "no INA3221 power monitor" in reason(tmp_path, "jetson")
    record(tmp_path, monitor(I2C, ORIN_NANO) | {f"{I2C}/curr1_input": "?"})
    assert "INA3221 power monitor can't be read" in reason(tmp_path, "jetson")


@pytest.mark.parametrize(
    ("tree", "power_mw"),
    [
        (battery(power_now="8500000"), 8500),
        (battery(power_now="-8500000"), 8500),
        (battery(power_now="8500000", online="1"), 8500),
        (battery(power_now="8500000", current_now="1", voltage_now="1"), 8500),
        (battery(current_now="500000", voltage_now="12000000"), 6000),
        (battery(current_now="-500000", voltage_now="12000000"), 6000),
        (battery(power_now="3000000") | battery("BAT1", power_now="4000000"), 7000),
        (battery(power_now="3000000") | battery("BAT1", "Not charging", power_now="4000000"), 3000),
        (battery(power_now="3000000") | battery("hid0", scope="Device", power_now="9000000"), 3000),
        (battery(power_now="3000000", scope="System") | supply("AC", type="Mains", online="0"), 3000),
        (battery(power_now="3000000") | supply("pen", type="Mains", scope="Device", online="1"), 3000),
    ],
)
def test_the_discharge_of_batteries(tmp_path, tree, power_mw):
    assert discharge_mw(record(tmp_path, tree)) == pytest.approx(power_mw)
    assert found(tmp_path, "battery").because == "discharge of the battery"


@pytest.mark.parametrize(
    ("tree", "because"),
    [
        ({}, "no battery"),
        (battery("hid0", scope="Device", power_now="9"), "no battery"),
        (battery(status="Charging", power_now="9"), "the device is not running on battery"),
        (battery(status="Full", power_now="0"), "the device is not running on battery"),
        (battery(power_now="9") | supply("AC", type="Mains", online="1"), "the device is not running on battery"),
        (battery(power_now="9") | supply("usb", type="USB", online="2"), "the device is not running on battery"),
        (battery(), "can't be read"),
        (battery(current_now="9"), "can't be read"),
        (battery(power_now="much"), "can't be read"),
        (battery(power_now="0"), "says 0 mW while it discharges"),
    ],
)
def test_without_a_discharge_the_reason_is_given(tmp_path, tree, because):
    assert because in reason(record(tmp_path, tree), "battery")


def test_a_charger_that_is_plugged_in_ends_the_reading(tmp_path):
    reader = found(record(tmp_path, battery(power_now="8000000")), "battery").reader
    try:
        assert reader.read_mj() == 0
        record(tmp_path, battery(status="Charging"))
        with pytest.raises(ProfileError, match="not running on battery"):
            reader.read_mj()
        record(tmp_path, battery())
        with pytest.raises(ProfileError, match="not running on battery"):
            reader.read_mj()
    finally:
        reader.close()


def test_a_monitor_that_goes_away_is_an_error(tmp_path):
    reader = found(record(tmp_path, monitor(I2C, ORIN_NANO)), "jetson").reader
    try:
        assert reader.read_mj() == 0
        (tmp_path / I2C / "in1_input").unlink()
        with pytest.raises(ProfileError, match=r"VDD_IN can't be read any more: .*in1_input"):
            reader.read_mj()
    finally:
        reader.close()


def sampled(times_s: Iterator[float], powers_mw: Iterator[float]) -> SampledReader:
    """A reader whose thread sleeps through the test."""
    return SampledReader(
        "fake", "fake power", lambda: next(powers_mw), clock=lambda: next(times_s), period_s=threading.TIMEOUT_MAX
    )


def test_power_is_summed_over_time_by_trapezoids():
    reader = sampled(iter((10.0, 12.0, 12.5, 12.5)), iter((1000, 3000, 3000, 7000)))
    assert [reader.read_mj() for _ in range(4)] == [0, 4000, 5500, 5500]
    reader.close()


def test_the_thread_samples_between_the_readings():
    sampled_often = threading.Event()
    samples = []

    def power_mw() -> float:
        samples.append(2000.0)
        if len(samples) > 3:
            sampled_often.set()
        return samples[-1]

    reader = SampledReader("fake", "fake power", power_mw, period_s=0.001)
    assert samples == []
    assert reader.read_mj() == 0
    assert sampled_often.wait(5)
    assert reader.read_mj() > 0
    threads = energy_threads()
    assert len(threads) == 1 and threads[0].daemon
    reader.close()
    assert not threads[0].is_alive()


def test_energy_that_a_failed_sample_missed_is_never_guessed():
    failed = threading.Event()
    powers = iter((1000, 1000))

    def power_mw() -> float:
        try:
            return next(powers)
        except StopIteration:
            failed.set()
            raise OSError("the sensor is gone") from None

    reader = SampledReader("fake", "fake power", power_mw, period_s=0.001)
    reader.read_mj()
    assert failed.wait(5)
    powers = iter((1000,) * 10)
    for _ in range(2):
        with pytest.raises(ProfileError, match="fake power can't be read any more: the sensor is gone"):
            reader.read_mj()
    reader.close()


def test_a_closed_reader_says_so():
    reader = sampled(iter((0.0, 1.0)), iter((1, 1)))
    reader.read_mj()
    reader.close()
    reader.close()
    with pytest.raises(ProfileError, match="closed"):
        reader.read_mj()
