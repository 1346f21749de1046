"""Processor energy of a Mac, from Apple's powermetrics.

Written to powermetrics' manual page; never run here.
"""

import os
import plistlib
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO
from xml.parsers.expat import ExpatError

from edge_embed_runtimes.device.energy import Finding, attempt
from edge_embed_runtimes.errors import ProfileError

_OPTIONS = ("--samplers", "cpu_power", "--sample-rate", "200", "--format", "plist")
_DENIED = "needs root: run with sudo"
_ANSWER_S = 5.0
_CHUNK = 65536
_END = b"</plist>"
_POWERS_MW = (("combined_power", 1.0), ("cpu_power", 1.0), ("package_watts", 1000.0))


def sample_mj(plist: bytes) -> float:
    """Millijoules of one sample: its mean power times its length.

    The power is that of processor, graphics and neural engine together (`combined_power`); where that is missing,
    that of the processor (`cpu_power`), or of the Intel package (`package_watts`).

    Raises:
        ProfileError: no plist, or one without a power.
    """
    try:
        sample = plistlib.loads(plist.strip(b"\0\r\n "), fmt=plistlib.FMT_XML)
        return _power_mw(sample["processor"]) * float(sample["elapsed_ns"]) / 1e9
    except (ExpatError, ValueError, KeyError, TypeError) as error:
        raise ProfileError(f"powermetrics gave a sample that can't be read: {error!r}") from error


class PowermetricsReader:
    """Energy from the samples of one powermetrics process, which the first `read_mj` starts.

    Args:
        command: powermetrics and its options.
        answer_s: seconds to wait for a sample.
    """

    name = "powermetrics"
    renews_s = 0.2

    def __init__(self, command: Sequence[str], *, answer_s: float = _ANSWER_S) -> None:
        self._command = tuple(command)
        self._answer_s = answer_s
        self._news = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._failure: str | None = None
        self._samples = 0
        self._total_mj = 0.0

    def read_mj(self) -> float:
        """Millijoules since powermetrics began; waits for its next sample, 0.2 s at most.

        Raises:
            ProfileError: powermetrics can't be started, ended, gives no sample or one that can't be read, or the
                reader is closed.
        """
        with self._news:
            if self._process is None and self._failure is None:
                self._start()
            seen = self._samples
            self._news.wait_for(lambda: self._failure is not None or self._samples > seen, self._answer_s)
            if self._failure is not None:
                raise ProfileError(self._failure)
            if self._samples == seen:
                raise ProfileError(f"powermetrics gave no sample in {self._answer_s:g} s; {self._try_it()}")
            return self._total_mj

    def close(self) -> None:
        """End powermetrics; a second call does nothing."""
        with self._news:
            self._failure = "the energy reader powermetrics is closed: make a new one with find_reader"
            process, self._process = self._process, None
            self._news.notify_all()
        if process is None:
            return
        process.kill()
        if self._thread is not None:
            self._thread.join()
        process.communicate()  # waits for its end and closes its output

    def _start(self) -> None:
        try:
            # a Python that ends without `close` closes the pipe, and powermetrics ends at its next sample
            process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        except OSError as error:
            raise ProfileError(f"powermetrics can't be started: {error}") from error
        self._process = process
        self._thread = threading.Thread(
            target=self._collect, args=(process.stdout,), name="energy-powermetrics", daemon=True
        )
        self._thread.start()

    def _collect(self, output: IO[bytes]) -> None:
        rest = b""
        try:
            while chunk := os.read(output.fileno(), _CHUNK):
                # each sample begins with its NUL: to wait for the next one would be to wait for the next sample
                *plists, rest = (rest + chunk).split(_END)
                for plist in plists:
                    self._add(sample_mj(plist + _END))
            self._fail(f"powermetrics ended; {self._try_it()}")
        except ProfileError as error:
            self._fail(str(error))

    def _add(self, energy_mj: float) -> None:
        with self._news:
            self._total_mj += energy_mj
            self._samples += 1
            self._news.notify_all()

    def _fail(self, why: str) -> None:
        with self._news:
            self._failure = self._failure or why
            self._news.notify_all()

    def _try_it(self) -> str:
        return f"to see why: sudo {' '.join(self._command)}"


def find(root: Path) -> Finding:
    """Look for powermetrics below `root`; it is not started."""
    return attempt("powermetrics", "powermetrics", _DENIED, lambda: _find(root))


def _find(root: Path) -> Finding:
    tool = root / "usr/bin/powermetrics"
    if not tool.exists():
        raise ProfileError("no powermetrics (usr/bin) on this device")
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise ProfileError(f"powermetrics {_DENIED}")
    reader = PowermetricsReader((str(tool), *_OPTIONS))
    return Finding("powermetrics", reader, "powermetrics, processor with graphics and neural engine")


def _power_mw(processor: Mapping[str, float]) -> float:
    for key, factor in _POWERS_MW:
        if key in processor:
            return float(processor[key]) * factor
    raise ValueError(f"none of {', '.join(key for key, _ in _POWERS_MW)} in it")
