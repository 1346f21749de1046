"""Energy readers of macOS and Windows, whose answers are written here: neither system is at hand."""

import ctypes
import os
import struct
import sys
import threading
from pathlib import Path

import pytest

from edge_embed_runtimes.device.energy import emi, find_readers
from edge_embed_runtimes.device.energy.emi import Meter, Request, channel_names, energy_mj, processor_meters
from edge_embed_runtimes.device.energy.powermetrics import PowermetricsReader, sample_mj
from edge_embed_runtimes.errors import ProfileError

PLIST = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
<key>is_delta</key><true/>
<key>elapsed_ns</key><integer>{elapsed_ns}</integer>
<key>timestamp</key><date>2025-03-01T10:00:00Z</date>
<key>processor</key>
<dict>
{powers}</dict>
</dict>
</plist>
"""
SOCKET = r"\\?\pci#emi"


def plist(elapsed_ns: int = 200_000_000, **powers: float) -> bytes:
    keys = "".join(f"<key>{key}</key><real>{value}</real>\n" for key, value in powers.items())
    return PLIST.format(elapsed_ns=elapsed_ns, powers=keys).encode()


def tool(folder: Path, script: str = "time.sleep(60)") -> Path:
    """A powermetrics that does what `script` says."""
    path = folder / "usr/bin/powermetrics"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!{sys.executable} -S\nimport os, time\n{script}\n")
    path.chmod(0o755)
    return path


def energy_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("energy-")]


@pytest.mark.parametrize(
    ("powers", "energy_mj"),
    [
        ({"cpu_power": 1200.5, "gpu_power": 100, "combined_power": 1500.5}, 300.1),
        ({"cpu_power": 1200.5, "gpu_power": 100}, 240.1),
        ({"package_watts": 7.5}, 1500),
    ],
)
def test_the_energy_of_a_sample(powers, energy_mj):
    assert sample_mj(plist(**powers)) == pytest.approx(energy_mj)
    assert sample_mj(b"\0" + plist(**powers)) == pytest.approx(energy_mj)
    assert sample_mj(plist(100_000_000, **powers)) == pytest.approx(energy_mj / 2)


@pytest.mark.parametrize("text", [b"", b"no plist", plist(), plist(cpu_power=1).replace(b"elapsed_ns", b"other")])
def test_a_sample_without_power_is_an_error(text):
    with pytest.raises(ProfileError, match="powermetrics gave a sample that can't be read"):
        sample_mj(text)


def test_powermetrics_is_not_on_this_device(tmp_path):
    (finding,) = find_readers(tmp_path, "Darwin")
    assert finding.reader is None and finding.because == "no powermetrics (usr/bin) on this device"


def test_powermetrics_needs_root(tmp_path, monkeypatch):
    tool(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 501)
    (finding,) = find_readers(tmp_path, "Darwin")
    assert finding.reader is None and finding.because == "powermetrics needs root: run with sudo"


def test_the_samples_of_powermetrics_are_summed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    sample, weak = (b"\0" + plist(combined_power=power_mw) for power_mw in (1000, 7))
    # a sample may come in two pieces, and two in one piece
    pieces = (sample[:300], sample[300:], sample + weak)
    tool(tmp_path, f"while True:\n  for piece in {pieces!r}:\n    os.write(1, piece)\n    time.sleep(0.005)")
    (finding,) = find_readers(tmp_path, "Darwin")
    assert energy_threads() == [] and "processor" in finding.because
    reader = finding.reader
    assert reader.name == "powermetrics"
    readings = [reader.read_mj() for _ in range(4)]
    sums = [401.4 * cycle + part for cycle in range(1000) for part in (0, 200, 400)]
    assert all(any(reading == pytest.approx(total) for total in sums) for reading in readings)
    assert readings[0] > 0 and readings == sorted(set(readings))
    reader.close()
    reader.close()
    with pytest.raises(ProfileError, match="closed"):
        reader.read_mj()
    assert energy_threads() == []


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("", "powermetrics ended; to see why: sudo .*cpu_power"),
        ("print('must be run as root'); raise SystemExit(1)", "powermetrics ended"),
        (f"os.write(1, {plist()!r}); time.sleep(60)", "can't be read"),
    ],
)
def test_a_powermetrics_that_fails_is_an_error(tmp_path, script, says):
    reader = PowermetricsReader((str(tool(tmp_path, script)), "--samplers", "cpu_power"))
    for _ in range(2):
        with pytest.raises(ProfileError, match=says):
            reader.read_mj()
    reader.close()


def test_a_powermetrics_that_stays_silent_or_is_gone_is_an_error(tmp_path):
    reader = PowermetricsReader((str(tool(tmp_path)),), answer_s=0.05)
    with pytest.raises(ProfileError, match=r"no sample in 0\.05 s"):
        reader.read_mj()
    reader.close()
    with pytest.raises(ProfileError, match="can't be started"):
        PowermetricsReader((str(tmp_path / "gone"),)).read_mj()


def named(name: str, unit: int = 0) -> tuple[int, bytes]:
    return unit, name.encode("utf-16-le") + b"\0\0"


def padded(text: str) -> bytes:
    return text.encode("utf-16-le").ljust(32, b"\0")


def metadata_v1(name: str, unit: int = 0) -> bytes:
    _, raw = named(name)
    return struct.pack("<i", unit) + padded("OEM") + padded("Model") + struct.pack("<HH", 7, len(raw)) + raw


def metadata_v2(*names: str, unit: int = 0) -> bytes:
    head = padded("Microsoft") + padded("PPM") + struct.pack("<HH", 7, len(names))
    return head + b"".join(struct.pack("<iH", unit, len(raw)) + raw for unit, raw in (named(n, unit) for n in names))


def measurement(*energies_pwh: int) -> bytes:
    return b"".join(struct.pack("<QQ", energy, 123_456) for energy in energies_pwh)


class FakeMeters:
    """Meters by their path: version, metadata and counters; a request for too few bytes is refused."""

    def __init__(self, **meters: tuple[int, bytes]) -> None:
        self.meters = meters
        self.energies = {path: (0,) for path in meters}

    def paths(self) -> tuple[str, ...]:
        return tuple(self.meters)

    def ask(self, path: str, request: Request, size: int) -> bytes:
        version, metadata = self.meters[path]
        answer = {
            Request.VERSION: struct.pack("<H", version),
            Request.METADATA_SIZE: struct.pack("<I", len(metadata)),
            Request.METADATA: metadata,
            Request.MEASUREMENT: measurement(*self.energies[path]),
        }[request]
        if size < len(answer):
            raise OSError(f"{request.name} needs {len(answer)} bytes")
        return answer


def test_the_channels_of_a_meter():
    assert channel_names(metadata_v1("CPU_CLUSTER_0"), 1) == ("CPU_CLUSTER_0",)
    names = ("RAPL_Package0_PKG", "RAPL_Package0_DRAM", "x")
    assert channel_names(metadata_v2(*names), 2) == names
    assert channel_names(metadata_v2(), 2) == ()


@pytest.mark.parametrize(
    ("metadata", "version", "says"),
    [
        (metadata_v2("PKG"), 3, "version 3"),
        (metadata_v2("PKG")[:-4], 2, "ends early"),
        (metadata_v1("PKG")[:60], 1, "ends early"),
        (b"", 2, "ends early"),
        (metadata_v2("PKG", unit=1), 2, "unit 1"),
        (metadata_v1("PKG", unit=1), 1, "unit 1"),
    ],
)
def test_metadata_that_are_not_understood_are_an_error(metadata, version, says):
    with pytest.raises(ValueError, match=says):
        channel_names(metadata, version)


def test_the_energy_of_channels():
    answer = measurement(1_000_000, 5, 3_000_000)
    assert energy_mj(answer, (0,)) == pytest.approx(3.6)
    assert energy_mj(answer, (0, 2)) == pytest.approx(14.4)
    assert energy_mj(measurement(10**12), (0,)) == pytest.approx(3.6e6)  # a watt-hour
    with pytest.raises(ValueError, match="ends early"):
        energy_mj(answer, (3,))


@pytest.mark.parametrize(
    ("channels", "counted"),
    [
        ((("RAPL_Package0_PKG", "RAPL_Package0_PP0", "RAPL_Package0_DRAM"),), [(0,)]),
        ((("RAPL_Package0_PP0", "RAPL_Package0_PKG"), ("RAPL_Package1_PKG",)), [(1,), (0,)]),
        ((("CPU_CLUSTER_0",), ("RAPL_Package0_PKG",)), [(0,)]),
        ((("VDDCR_VDD Power", "VDDCR_SOC Power", "Current Socket Power", "Apu Power"),), [(2,)]),
        ((("SYS", "CPU_CLUSTER_0", "CPU_CLUSTER_1", "GPU"), ("PSU_USB",)), [(1, 2)]),
    ],
)
def test_the_channels_that_are_the_processor(channels, counted):
    meters = [Meter(str(number), names) for number, names in enumerate(channels)]
    assert [meter.counted for meter in processor_meters(meters)] == counted


def test_without_a_meter_of_the_processor_the_channels_are_listed():
    finding = emi.find(FakeMeters(a=(2, metadata_v2("GPU", "SYS")), b=(1, metadata_v1("Battery"))))
    assert finding.reader is None and finding.because.endswith("there are channels GPU, SYS, Battery")
    assert emi.find(FakeMeters()).because == "no energy meter (EMI) on this device"


def test_meters_are_summed():
    meters = FakeMeters(
        a=(2, metadata_v2("RAPL_Package0_PP0", "RAPL_Package0_PKG", "RAPL_Package0_DRAM")),
        b=(1, metadata_v1("RAPL_Package1_PKG")),
        c=(1, metadata_v1("GPU")),
    )
    meters.energies = {"a": (7, 1_000_000, 7), "b": (2_000_000,), "c": (7,)}
    finding = emi.find(meters)
    assert finding.because == "energy meters (EMI), RAPL_Package0_PKG + RAPL_Package1_PKG"
    assert finding.reader.name == "emi"
    assert finding.reader.read_mj() == pytest.approx(10.8)
    meters.energies["b"] = ()
    with pytest.raises(ProfileError, match="can't be read any more"):
        finding.reader.read_mj()
    finding.reader.close()


@pytest.mark.parametrize(
    ("error", "because"),
    [
        (PermissionError(13, "denied"), "are readable by administrators alone: run as administrator"),
        (OSError("not supported"), "can't be read: not supported"),
    ],
)
def test_meters_that_refuse_are_no_reader(error, because):
    class Refusing(FakeMeters):
        def ask(self, path: str, request: Request, size: int) -> bytes:
            raise error

    finding = emi.find(Refusing(a=(1, metadata_v1("PKG"))))
    assert finding.reader is None and finding.because == f"energy meters (EMI) {because}"


def test_a_meter_that_names_its_channels_but_counts_nothing_is_no_reader():
    meters = FakeMeters(a=(1, metadata_v1("RAPL_Package0_PKG")))
    meters.energies["a"] = ()
    assert emi.find(meters).because == "energy meters (EMI) can't be read: an answer of 0 bytes ends early"


def test_the_meters_of_windows_are_not_here(tmp_path):
    (finding,) = find_readers(tmp_path, "Windows")
    assert finding.reader is None and "is a part of Windows; this is" in finding.because


class Library:
    """Functions of C made of Python ones."""

    def __init__(self, **functions: object) -> None:
        self.__dict__.update(functions)


@pytest.fixture
def windows(monkeypatch):
    """Windows with one meter of one package; holds the handles that are open, and the codes that were asked."""
    word, pointer, text = ctypes.c_uint32, ctypes.c_void_p, ctypes.c_wchar_p
    paths, handle, open_handles, requests = f"{SOCKET}\0\0", 0x1_2345_6789, [], []
    meters = FakeMeters(**{SOCKET: (2, metadata_v2("RAPL_Package0_PKG"))})

    def size_of_list(length, guid, device, flags):
        assert ctypes.string_at(guid, 16) == bytes.fromhex("4483bd45d67ecf49a440c276c933b053")
        ctypes.cast(length, ctypes.POINTER(word))[0] = len(paths)
        return 0

    def list_paths(guid, device, buffer, length, flags):
        raw = ctypes.create_unicode_buffer(paths, len(paths))
        ctypes.memmove(buffer, raw, min(length * ctypes.sizeof(ctypes.c_wchar), ctypes.sizeof(raw)))
        return 0

    def create_file(path, access, share, security, creation, flags, template):
        if path != SOCKET or (access, share, creation) != (0x80000000, 3, 3):
            return ctypes.c_void_p(-1).value
        open_handles.append(handle)
        return handle

    def control(asked, request, given, given_size, answer, size, written, overlapped):
        assert asked == handle
        requests.append(request)
        reply = meters.ask(SOCKET, Request(request), size)
        ctypes.memmove(answer, reply, len(reply))
        ctypes.cast(written, ctypes.POINTER(word))[0] = len(reply)
        return 1

    def close(closed):
        open_handles.remove(closed)
        return 1

    of = ctypes.CFUNCTYPE
    libraries = {
        "cfgmgr32": Library(
            CM_Get_Device_Interface_List_SizeW=of(word, pointer, pointer, pointer, word)(size_of_list),
            CM_Get_Device_Interface_ListW=of(word, pointer, pointer, pointer, word, word)(list_paths),
        ),
        "kernel32": Library(
            CreateFileW=of(pointer, text, word, word, pointer, word, word, pointer)(create_file),
            DeviceIoControl=of(ctypes.c_int, pointer, word, pointer, word, pointer, word, pointer, pointer)(control),
            CloseHandle=of(ctypes.c_int, pointer)(close),
        ),
    }
    monkeypatch.setattr(ctypes, "WinDLL", lambda name, **_: libraries[name], raising=False)
    monkeypatch.setattr(ctypes, "get_last_error", lambda: 5, raising=False)
    monkeypatch.setattr(ctypes, "WinError", lambda code: PermissionError(13, "Access is denied"), raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    meters.open_handles, meters.requests = open_handles, requests
    return meters


def test_the_calls_into_windows(windows):
    windows.energies = {SOCKET: (5_000_000,)}
    finding = emi.find()
    assert finding.because == "energy meters (EMI), RAPL_Package0_PKG"
    assert finding.reader.read_mj() == pytest.approx(18)
    assert windows.open_handles == []
    assert windows.requests == [0x224000, 0x224004, 0x224008, 0x22400C, 0x22400C]
    assert emi.WindowsMeters().ask(SOCKET, Request.VERSION, 8) == b"\2\0"


def test_a_refusal_of_windows_is_an_error(windows):
    with pytest.raises(PermissionError, match="Access is denied"):
        emi.WindowsMeters().ask("another", Request.VERSION, 2)
