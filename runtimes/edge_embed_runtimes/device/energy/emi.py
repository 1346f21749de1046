"""Processor energy on Windows, from the Energy Meter Interface.

Written to emi.h of the Windows SDK and its documentation; never run here.
"""

import ctypes
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from fnmatch import fnmatchcase
from typing import Any, Protocol

from edge_embed_runtimes.device.energy import Finding, attempt, unreadable
from edge_embed_runtimes.errors import ProfileError

_WHAT = "energy meters (EMI)"
_DENIED = "are readable by administrators alone: run as administrator"
_MJ_PER_PICOWATT_HOUR = 3.6e-6
_PICOWATT_HOURS = 0
_MEASUREMENT_BYTES = 16
_V1_NAME_SIZE = 70
_V2_COUNT = 66
_PROCESSOR = ("*_PKG", "CURRENT SOCKET POWER", "CPU_CLUSTER_*")


class Request(IntEnum):
    """What a meter can be asked: the control codes of emi.h."""

    VERSION = 0x00224000
    METADATA_SIZE = 0x00224004
    METADATA = 0x00224008
    MEASUREMENT = 0x0022400C


class Meters(Protocol):
    """The energy meters of a device."""

    def paths(self) -> tuple[str, ...]:
        """Device paths of the meters that are there now."""

    def ask(self, path: str, request: Request, size: int) -> bytes:
        """A meter's answer to `request`, `size` bytes at most; raises OSError where it gives none."""


@dataclass(frozen=True, slots=True)
class Meter:
    """One energy meter.

    Attributes:
        path: its device path.
        channels: names of its channels, in the order of its measurements.
        counted: numbers of the channels that are the processor.
    """

    path: str
    channels: tuple[str, ...]
    counted: tuple[int, ...] = ()


def channel_names(metadata: bytes, version: int) -> tuple[str, ...]:
    """Names of a meter's channels, from EMI_METADATA_V1 (one channel) or EMI_METADATA_V2.

    Raises:
        ValueError: another version, another unit than picowatt-hours, or metadata that end early.
    """
    if version == 1:
        (unit,) = _unpack("<i", metadata, 0)
        (size,) = _unpack("<H", metadata, _V1_NAME_SIZE)
        return (_name(metadata, _V1_NAME_SIZE + 2, size, unit),)
    if version != 2:
        raise ValueError(f"version {version} of the Energy Meter Interface, known are 1 and 2")
    (count,) = _unpack("<H", metadata, _V2_COUNT)
    names, place = [], _V2_COUNT + 2
    for _ in range(count):
        unit, size = _unpack("<iH", metadata, place)
        names.append(_name(metadata, place + 6, size, unit))
        place += 6 + size
    return tuple(names)


def processor_meters(meters: Sequence[Meter]) -> tuple[Meter, ...]:
    """The meters with channels that together are the processor, these counted.

    These are the packages (`RAPL_Package0_PKG`), on AMD's own meters the socket (`Current Socket Power`), on
    Qualcomm's the clusters of cores (`CPU_CLUSTER_0`). Others are parts of these, or of the rest of the device.

    Raises:
        ProfileError: there are none.
    """
    for pattern in _PROCESSOR:
        found = tuple(replace(meter, counted=_matching(meter.channels, pattern)) for meter in meters)
        if any(meter.counted for meter in found):
            return tuple(meter for meter in found if meter.counted)
    known = ", ".join(name for meter in meters for name in meter.channels)
    raise ProfileError(f"no energy meter (EMI) counts the processor; there are channels {known or 'none'}")


def energy_mj(measurement: bytes, channels: Sequence[int]) -> float:
    """Millijoules of `channels` in a measurement: for each channel a counter of picowatt-hours, then its time.

    Raises:
        ValueError: the measurement ends early.
    """
    counters = [_unpack("<Q", measurement, _MEASUREMENT_BYTES * channel)[0] for channel in channels]
    return float(sum(counters) * _MJ_PER_PICOWATT_HOUR)


class EmiReader:
    """Energy of the processor from the counters of its meters.

    Args:
        source: where to ask.
        meters: the meters with a counted channel.
    """

    name = "emi"
    renews_s = 1.0  # seen by others; the documentation names no period

    def __init__(self, source: Meters, meters: Sequence[Meter]) -> None:
        self._source = source
        self._meters = tuple(meters)

    def read_mj(self) -> float:
        """Millijoules since the meters began to count.

        Raises:
            ProfileError: a meter can't be read any more.
        """
        try:
            return self.measure_mj()
        except (OSError, ValueError) as error:
            raise unreadable(_WHAT, error) from error

    def measure_mj(self) -> float:
        """As `read_mj`, but raises OSError or ValueError."""
        return sum(self._meter_mj(meter) for meter in self._meters)

    def close(self) -> None:
        """Do nothing: there is no thread and no process."""

    def _meter_mj(self, meter: Meter) -> float:
        # a meter answers with all its channels, or not at all
        size = _MEASUREMENT_BYTES * len(meter.channels)
        return energy_mj(self._source.ask(meter.path, Request.MEASUREMENT, size), meter.counted)


def find(source: Meters | None = None) -> Finding:
    """Look for meters of the processor; None asks Windows."""
    return attempt("emi", _WHAT, _DENIED, lambda: _find(source or WindowsMeters()))


def _find(source: Meters) -> Finding:
    meters = [Meter(path, _channels_of(source, path)) for path in source.paths()]
    if not meters:
        raise ProfileError("no energy meter (EMI) on this device")
    processor = processor_meters(meters)
    reader = EmiReader(source, processor)
    reader.measure_mj()
    counted = " + ".join(meter.channels[number] for meter in processor for number in meter.counted)
    return Finding("emi", reader, f"{_WHAT}, {counted}")


def _channels_of(source: Meters, path: str) -> tuple[str, ...]:
    (version,) = _unpack("<H", source.ask(path, Request.VERSION, 2), 0)
    (size,) = _unpack("<I", source.ask(path, Request.METADATA_SIZE, 4), 0)
    return channel_names(source.ask(path, Request.METADATA, size), version)


def _name(metadata: bytes, place: int, size: int, unit: int) -> str:
    if unit != _PICOWATT_HOURS:
        raise ValueError(f"a channel counts in unit {unit}, known is 0 (picowatt-hours)")
    (name,) = _unpack(f"<{size}s", metadata, place)
    text: str = name.decode("utf-16-le")
    return text.partition("\0")[0]


def _matching(names: Sequence[str], pattern: str) -> tuple[int, ...]:
    return tuple(number for number, name in enumerate(names) if fnmatchcase(name.upper(), pattern))


def _unpack(layout: str, data: bytes, place: int) -> tuple[Any, ...]:
    try:
        return struct.unpack_from(layout, data, place)
    except struct.error as error:
        raise ValueError(f"an answer of {len(data)} bytes ends early") from error


_GUID = struct.pack("<IHH8s", 0x45BD8344, 0x7ED6, 0x49CF, bytes.fromhex("A440C276C933B053"))
_GENERIC_READ = 0x80000000
_SHARE_READ_WRITE = 3
_OPEN_EXISTING = 3
_INVALID_HANDLE = ctypes.c_void_p(-1).value


class WindowsMeters:
    """The meters that Windows lists. A meter is opened for each question, so nothing stays open.

    Raises:
        ProfileError: this is not Windows.
    """

    _devices: Any
    _kernel: Any

    def __init__(self) -> None:
        if sys.platform != "win32":
            raise ProfileError(f"the Energy Meter Interface is a part of Windows; this is {sys.platform}")
        self._devices = ctypes.WinDLL("cfgmgr32")
        self._kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        word, pointer = ctypes.c_uint32, ctypes.c_void_p
        # without these a handle would be cut to 32 bits
        self._kernel.CreateFileW.restype = pointer
        self._kernel.CreateFileW.argtypes = [ctypes.c_wchar_p, word, word, pointer, word, word, pointer]
        self._kernel.DeviceIoControl.argtypes = [pointer, word, pointer, word, pointer, word, pointer, pointer]
        self._kernel.CloseHandle.argtypes = [pointer]

    def paths(self) -> tuple[str, ...]:
        """Device paths of the meters that are there now.

        Raises:
            OSError: Windows does not list them.
        """
        length = ctypes.c_uint32()
        self._listed(self._devices.CM_Get_Device_Interface_List_SizeW(ctypes.byref(length), _GUID, None, 0))
        paths = ctypes.create_unicode_buffer(length.value)
        self._listed(self._devices.CM_Get_Device_Interface_ListW(_GUID, None, paths, length, 0))
        return tuple(path for path in "".join(paths).split("\0") if path)

    def ask(self, path: str, request: Request, size: int) -> bytes:
        """A meter's answer to `request`, `size` bytes at most.

        Raises:
            OSError: the meter can't be opened, or does not answer.
        """
        handle = self._kernel.CreateFileW(path, _GENERIC_READ, _SHARE_READ_WRITE, None, _OPEN_EXISTING, 0, None)
        if handle == _INVALID_HANDLE:
            raise _last_error()
        answer, written = ctypes.create_string_buffer(size), ctypes.c_uint32()
        asked = (handle, request, None, 0, answer, size, ctypes.byref(written), None)
        try:
            if not self._kernel.DeviceIoControl(*asked):
                raise _last_error()
        finally:
            self._kernel.CloseHandle(handle)
        return answer.raw[: written.value]

    @staticmethod
    def _listed(result: int) -> None:
        if result:
            raise OSError(f"Windows lists no energy meters: configuration manager error {result}")


def _last_error() -> OSError:
    if sys.platform != "win32":
        return OSError("not Windows")
    return ctypes.WinError(ctypes.get_last_error())
