"""Rows of numbers kept beside a file that is still being made, so that a killed run goes on where it stopped."""

import json
import logging
import shutil
from pathlib import Path
from types import TracebackType

import filelock
import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.errors import OutputError
from edge_embed_runtimes.files import refusals, writing_file

log = logging.getLogger("edge_embed")

_KEY = "job.json"


class Journal:
    """A folder beside `target` with what was done so far, held by one process at a time.

    Args:
        target: the file in the making.
        key: of the work; what another work left is thrown away.
        width: values of a row.
        rows: how many there will be.

    Attributes:
        done: rows that are there already.

    Raises:
        OutputError: another process holds it, or the place can't be written.
    """

    def __init__(self, target: Path, key: str, *, width: int, rows: int) -> None:
        self._target = target
        self._folder = target.with_name(f".{target.name}.part")
        self._lock = filelock.FileLock(target.with_name(f".{target.name}.lock"), timeout=0)
        self._job = {"key": key, "width": width, "rows": rows}
        self._width = width
        self.done = 0

    def __enter__(self) -> "Journal":
        with refusals(self._target):
            self._target.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except filelock.Timeout as error:
                raise OutputError(f"{self._target} is being written by another process: wait for its end") from error
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def add(self, rows: NDArray[np.float32]) -> None:
        """Keep the next rows; they are there whole or not at all."""
        with writing_file(self._folder / f"{self.done:012}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, rows)
        self.done += len(rows)

    def rows(self) -> NDArray[np.float32]:
        """All rows so far."""
        parts = [np.load(path) for path in self._parts()]
        return np.concatenate(parts) if parts else np.empty((0, self._width), dtype=np.float32)

    def finish(self) -> None:
        """Forget it: the target stands."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _open(self) -> None:
        with refusals(self._target):
            if self._folder.exists() and self._read_job() != self._job:
                log.warning("%s is of other work, and begins anew", self._folder)
                shutil.rmtree(self._folder)
            self._folder.mkdir(exist_ok=True)
        with writing_file(self._folder / _KEY) as temporary:
            temporary.write_text(json.dumps(self._job), encoding="utf-8")
        for path in self._parts():
            if int(path.stem) != self.done:
                path.unlink()  # behind a gap
            else:
                self.done += len(np.load(path, mmap_mode="r"))

    def _read_job(self) -> object:
        try:
            return json.loads((self._folder / _KEY).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.npy"))
