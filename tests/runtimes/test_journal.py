"""Work that goes on after a kill."""

import os
import subprocess
import sys

import numpy as np
import pytest

from edge_embed_runtimes.errors import OutputError
from edge_embed_runtimes.index.journal import Journal

ROWS = np.arange(12, dtype=np.float32).reshape(6, 2)


def journal(path, key="work", rows=6):
    return Journal(path, key, width=2, rows=rows)


def test_rows_come_back_and_finish_leaves_nothing(tmp_path):
    target = tmp_path / "deep" / "index.npz"
    with journal(target) as one:
        assert one.done == 0 and one.rows().shape == (0, 2)
        one.add(ROWS[:4])
        one.add(ROWS[4:])
        assert one.done == 6 and (one.rows() == ROWS).all()
        one.finish()
    with journal(target) as again:
        assert again.done == 0


def test_another_run_goes_on(tmp_path):
    target = tmp_path / "index.npz"
    with pytest.raises(ZeroDivisionError), journal(target) as one:
        one.add(ROWS[:4])
        raise ZeroDivisionError
    with journal(target) as again:
        assert again.done == 4
        again.add(ROWS[4:])
        assert (again.rows() == ROWS).all()


@pytest.mark.parametrize("changed", [{"key": "other"}, {"rows": 7}])
def test_other_work_begins_anew_and_says_so(tmp_path, changed, caplog):
    target = tmp_path / "index.npz"
    with journal(target) as one:
        one.add(ROWS)
    with journal(target, **changed) as again:
        assert again.done == 0 and len(again.rows()) == 0
    assert "begins anew" in caplog.text


def test_rows_behind_a_gap_are_dropped(tmp_path):
    target = tmp_path / "index.npz"
    with journal(target) as one:
        for start in range(0, 6, 2):
            one.add(ROWS[start : start + 2])
    (tmp_path / ".index.npz.part" / f"{2:012}.npy").unlink()
    with journal(target) as again:
        assert again.done == 2 and (again.rows() == ROWS[:2]).all()


def test_two_writers_do_not_mix(tmp_path):
    target = tmp_path / "index.npz"
    with journal(target):
        script = (
            "import sys, pathlib\nfrom edge_embed_runtimes.index.journal import Journal\n"
            "with Journal(pathlib.Path(sys.argv[1]), 'work', width=2, rows=6): pass"
        )
        done = subprocess.run([sys.executable, "-c", script, str(target)], capture_output=True, text=True, check=False)
        assert done.returncode == 1 and "is being written by another process" in done.stderr
    with journal(target):
        pass


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_can_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="can't be written"), journal(tmp_path / "index.npz"):
        pass
