"""Writing that leaves nothing half-written: to a temporary place, then renamed."""

import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_embed_runtimes.errors import OutputError

_REFUSED = (
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.EBUSY,
    errno.ENAMETOOLONG,
)


@contextmanager
def writing_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it to `target` at the end, or remove it on an error.

    Raises:
        OutputError: the place can't be written, or the disk is full.
    """
    with refusals(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with _full_disk(target):
            yield temporary
        with refusals(target):
            _open_up(temporary, 0o666)
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `target`; rename it to `target` at the end, or remove it on an error.

    An empty folder at `target` is replaced; any other thing there only with `replace`. What a killed process of this
    machine left half-written is deleted.

    Raises:
        OutputError: something stands at `target`, the place can't be written, or the disk is full.
    """
    check_target(target, replace=replace)
    with refusals(target):
        target = target.absolute() if target.is_symlink() else target.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.{os.getpid()}.", dir=target.parent))
    try:
        with _full_disk(target):
            yield temporary
        with refusals(target):
            _open_up(temporary, 0o777)
            for path in temporary.rglob("*"):
                _open_up(path, 0o777 if path.is_dir() else 0o666)
            _swap_in(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_target(target: Path, *, replace: bool) -> None:
    """Refuse a folder that would be overwritten, before any long work.

    Raises:
        OutputError: something stands at `target` and `replace` is off.
    """
    with refusals(target):
        taken = target.exists()
    if target.is_dir() and not any(target.iterdir()):
        return
    if taken and not (replace and target.is_dir()):
        raise OutputError(f"{target} exists already: name another place, or pass --force to replace a folder")
    _check_permission(target)


def check_file(target: Path) -> None:
    """Refuse a file that `writing_file` could not write, before any long work.

    Raises:
        OutputError: a folder stands at `target`, or there is no permission.
    """
    with refusals(target):
        if target.is_dir():
            raise OutputError(f"{target} is a folder: name a file in it")
        _check_permission(target)


def _check_permission(target: Path) -> None:
    nearest = next(parent for parent in target.absolute().parents if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"{target} can't be written: no permission in {nearest}; name a folder of your own")


def _sweep(target: Path) -> None:
    """Delete the temporary folders that killed processes left beside `target`."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.*"):
        owner = left.name.removeprefix(f".{target.name}.").split(".")[0]
        if owner.isdigit() and not _is_running(int(owner)):
            shutil.rmtree(left, ignore_errors=True)


def _is_running(process: int) -> bool:
    if os.name != "posix":
        return True  # there a signal of 0 would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _swap_in(temporary: Path, target: Path) -> None:
    old = temporary.with_name(f"{temporary.name}.old")
    if target.exists():
        target.rename(old)
    try:
        temporary.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    if old.is_symlink():
        old.unlink()
    else:
        shutil.rmtree(old, ignore_errors=True)


def _open_up(path: Path, mode: int) -> None:
    """Give a temporary file or folder, made private, the permissions that the user's umask asks for."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(mode & ~umask)


@contextmanager
def _full_disk(target: Path) -> Iterator[None]:
    """Name a full disk as such, also where another library wraps it in an error of its own."""
    try:
        yield
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or "No space left on device" in str(error):
            raise OutputError(f"no room left on the disk of {target}: nothing was written; free some space") from error
        raise


@contextmanager
def refusals(target: Path) -> Iterator[None]:
    """Name a place that can't be written as such."""
    with _full_disk(target):
        try:
            yield
        except OSError as error:
            if error.errno in _REFUSED:
                raise OutputError(f"{target} can't be written ({error.strerror}): name a place of your own") from error
            raise
