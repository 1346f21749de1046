"""Writing leaves the whole result or nothing, and the failures of a disk come as `OutputError`."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_embed_runtimes.errors import EdgeEmbedError, OutputError
from edge_embed_runtimes.files import check_file, check_target, writing_file, writing_folder

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def write(writing, target: Path, error: BaseException | None = None, **options: bool) -> None:
    with writing(target, **options) as temporary:
        place = temporary / "sub" / "inner" if writing is writing_folder else temporary
        place.parent.mkdir(exist_ok=True)
        place.write_text("new")
        if error is not None:
            raise error


def content(target: Path) -> str:
    return (target / "sub" / "inner" if target.is_dir() else target).read_text()


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


both = pytest.mark.parametrize("writing", [writing_file, writing_folder])


@both
def test_the_result_stands_at_the_target_alone(writing, tmp_path):
    target = tmp_path / "deep" / "er" / "out.json"
    write(writing, target)
    assert content(target) == "new"
    assert [path.name for path in target.parent.iterdir()] == ["out.json"]


@both
def test_nothing_stands_at_the_target_meanwhile(writing, tmp_path):
    target = tmp_path / "out.npy"
    with writing(target) as temporary:
        assert not target.exists()
        assert temporary.parent == tmp_path and (temporary.suffix == ".npy" or temporary.is_dir())


@both
@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), EdgeEmbedError("ours")])
def test_an_error_of_the_body_passes_and_leaves_nothing(writing, tmp_path, error):
    with pytest.raises(type(error)) as caught:
        write(writing, tmp_path / "out", error)
    assert caught.value is error
    assert listing(tmp_path) == []


@both
def test_a_missing_input_of_the_body_is_not_blamed_on_the_target(writing, tmp_path):
    error = FileNotFoundError(errno.ENOENT, "No such file", "elsewhere/input.txt")
    with pytest.raises((FileNotFoundError, OutputError), match=r"elsewhere/input\.txt"):
        write(writing, tmp_path / "out", error)
    assert listing(tmp_path) == []


@both
@pytest.mark.parametrize(
    "error", [FULL, OSError(errno.EDQUOT, "quota"), RuntimeError("write: No space left on device (os error 28)")]
)
def test_a_full_disk_is_an_output_error(writing, tmp_path, error):
    with pytest.raises(OutputError, match=r"no room left.*out.*free some space"):
        write(writing, tmp_path / "out", error)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("error", [FULL, ValueError()])
def test_a_failure_keeps_the_old_file(tmp_path, error):
    target = tmp_path / "out"
    target.write_text("old")
    with pytest.raises((OutputError, ValueError)):
        write(writing_file, target, error)
    assert content(target) == "old" and listing(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [FULL, ValueError()])
def test_a_failure_keeps_the_old_folder(tmp_path, error):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("")
    with pytest.raises((OutputError, ValueError)):
        write(writing_folder, tmp_path / "out", error, replace=True)
    assert listing(tmp_path) == ["out", "out/old"]


def test_a_file_is_replaced(tmp_path):
    target = tmp_path / "out"
    target.write_text("old")
    write(writing_file, target)
    assert content(target) == "new" and listing(tmp_path) == ["out"]


def test_a_folder_is_replaced_when_asked(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("")
    write(writing_folder, tmp_path / "out", replace=True)
    assert listing(tmp_path) == ["out", "out/sub", "out/sub/inner"]


def test_an_empty_folder_is_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    write(writing_folder, tmp_path / "out")
    assert listing(tmp_path) == ["out", "out/sub", "out/sub/inner"]


@pytest.mark.parametrize("replace", [False, True])
def test_a_file_in_a_folders_place_is_refused(tmp_path, replace):
    (tmp_path / "out").write_text("old")
    with pytest.raises(OutputError, match=r"exists already.*--force"):
        write(writing_folder, tmp_path / "out", replace=replace)
    assert listing(tmp_path) == ["out"]


def test_a_full_folder_is_refused_before_the_body_runs(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("")
    with pytest.raises(OutputError, match="exists already"), writing_folder(tmp_path / "out"):
        pytest.fail("the body ran")
    assert listing(tmp_path) == ["out", "out/old"]


def test_a_folder_in_a_files_place_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="out"):
        write(writing_file, tmp_path / "out")
    assert listing(tmp_path) == ["out"]


@both
@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_a_place_under_a_file_is_refused(writing, tmp_path, mode):
    (tmp_path / "file").write_text("old")
    (tmp_path / "file").chmod(mode)
    with pytest.raises(OutputError, match="can't be written"):
        write(writing, tmp_path / "file" / "sub" / "out")
    assert listing(tmp_path) == ["file"]


@both
def test_a_name_too_long_is_refused(writing, tmp_path):
    with pytest.raises(OutputError):
        write(writing, tmp_path / ("x" * 300))
    assert listing(tmp_path) == []


def test_the_working_folder_as_target_works_or_is_refused(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    try:
        write(writing_folder, Path())
    except OutputError:
        assert listing(tmp_path) == ["here"]
    else:
        assert listing(tmp_path) == ["here", "here/sub", "here/sub/inner"]


def test_replacing_a_link_to_a_folder_leaves_nothing_beside(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "old").write_text("")
    (tmp_path / "out").symlink_to(tmp_path / "real")
    write(writing_folder, tmp_path / "out", replace=True)
    assert content(tmp_path / "out") == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "real"]


def test_a_failed_swap_puts_the_old_folder_back(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("")
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if Path(target) == tmp_path / "out" and (self / "sub").exists():
            raise OSError(errno.EACCES, "refused")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutputError):
        write(writing_folder, tmp_path / "out", replace=True)
    assert listing(tmp_path) == ["out", "out/old"]


@both
def test_permissions_follow_the_umask(writing, tmp_path):
    before = os.umask(0o027)
    try:
        write(writing, tmp_path / "out")
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "out", *(tmp_path / "out").rglob("*"))]
    assert modes == ([0o640] if writing is writing_file else [0o750, 0o750, 0o640])


def test_check_target_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="no permission in"):
        check_target(tmp_path / "a" / "b", replace=False)
    assert listing(tmp_path) == []


def test_what_a_killed_process_left_is_swept_away(tmp_path):
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    ).stdout
    left = tmp_path / f".out.{int(dead)}.abc"
    (left / "deep").mkdir(parents=True)
    others = [f".out.{os.getpid()}.abc", ".out.name.abc", f".outer.{int(dead)}.abc", ".out.x"]
    for name in others:
        (tmp_path / name).mkdir()
    with writing_folder(tmp_path / "out") as temporary:
        assert not left.exists()
        (temporary / "file").write_text("")
    assert {path.name for path in tmp_path.iterdir()} == {"out", *others}


def test_a_file_that_could_not_be_written_is_refused_early(tmp_path, monkeypatch):
    check_file(tmp_path / "new" / "deep" / "file")
    (tmp_path / "file").write_text("")
    check_file(tmp_path / "file")
    with pytest.raises(OutputError, match="is a folder: name a file in it"):
        check_file(tmp_path)
    with pytest.raises(OutputError, match="can't be written"):
        check_file(tmp_path / "file" / "below")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match="no permission in"):
        check_file(tmp_path / "other")
