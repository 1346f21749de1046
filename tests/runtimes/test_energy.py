"""RAPL counters in a recorded tree: sums, wrap-around, and the reason where they can't be read."""

from pathlib import Path

import pytest

from edge_embed_runtimes.device.energy import RaplReader, find_reader


def zone(root: Path, name: str, energy_uj: object, limit_uj: object = 1_000_000) -> Path:
    folder = root / "sys/class/powercap" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{limit_uj}\n")
    return folder


def test_packages_are_summed_and_their_parts_are_not(tmp_path):
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0", "intel-rapl-mmio:0", "dtpm"):
        zone(tmp_path, name, 5000)
    reader, reason = find_reader(tmp_path)
    assert reader.name == "rapl" and "RAPL" in reason
    assert reader.read_mj() == 0
    for name, energy_uj in (("intel-rapl:0", 7000), ("intel-rapl:1", 6000), ("intel-rapl:0:0", 99_000)):
        zone(tmp_path, name, energy_uj)
    assert reader.read_mj() == 3
    assert reader.read_mj() == 3


def test_a_counter_that_starts_over_goes_on(tmp_path):
    folder = zone(tmp_path, "intel-rapl:0", 999_000)
    reader = RaplReader((folder,))
    readings = []
    for energy_uj in (1_000, 500_000, 100):
        zone(tmp_path, "intel-rapl:0", energy_uj)
        readings.append(reader.read_mj())
    assert readings == [2, 501, 501 + 500.1]


def test_without_counters_the_reason_is_given(tmp_path):
    reader, reason = find_reader(tmp_path)
    assert reader is None and "no RAPL counters" in reason


def test_without_permission_the_way_out_is_given(tmp_path, monkeypatch):
    zone(tmp_path, "intel-rapl:0", 1)

    def refuse(self: Path, *_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", refuse)
    reader, reason = find_reader(tmp_path)
    assert reader is None and "run as root" in reason


@pytest.mark.parametrize(("energy_uj", "limit_uj"), [("", 1), ("soon", 1), (1, "")])
def test_counters_without_numbers_are_no_reader(tmp_path, energy_uj, limit_uj):
    zone(tmp_path, "intel-rapl:0", energy_uj, limit_uj)
    reader, reason = find_reader(tmp_path)
    assert reader is None and "can't be read" in reason


def test_a_missing_counter_is_no_reader(tmp_path):
    (zone(tmp_path, "intel-rapl:0", 1) / "energy_uj").unlink()
    reader, reason = find_reader(tmp_path)
    assert reader is None and "can't be read" in reason
