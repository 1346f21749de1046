"""What a training tells while it runs."""

import sys
import time
from types import ModuleType

import pytest

from edge_embed.train import tensorboard
from edge_embed.train.monitor import Clock, Quiet, Several, StepReport
from edge_embed.train.tensorboard import TensorBoard
from edge_embed_runtimes.errors import ExtraMissing

REPORT = StepReport(
    step=3, steps=9, loss=0.5, losses={"demi": 0.75, "tall": 0.25}, learning_rate=1e-4, texts_per_s=80, left_s=6
)


class Heard:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def step(self, report):
        self.told.append(report)

    def scored(self, step, scores):
        self.told.append((step, scores))


@pytest.fixture
def now(monkeypatch) -> list[float]:
    """The seconds that clocks show."""
    seconds = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: seconds[0])
    return seconds


def test_the_clock_counts_texts_and_time(now):
    clock = Clock()
    clock.count(16)
    clock.count(16)
    now[0] += 2
    report = clock.report(1, 5, {"loss": 0.5, "demi": 0.75, "tall": 0.25}, 1e-4)
    assert report == StepReport(
        step=1, steps=5, loss=0.5, losses={"demi": 0.75, "tall": 0.25}, learning_rate=1e-4, texts_per_s=16, left_s=8
    )
    clock.count(32)
    now[0] += 4
    report = clock.report(2, 5, {"loss": 0.25}, 0.0)
    assert (report.texts_per_s, report.left_s, report.losses) == (64 / 6, 9, {})


def test_the_clock_of_a_resumed_run_counts_from_there(now):
    clock = Clock()
    for step in (8, 9):
        clock.count(10)
        now[0] += 2
        report = clock.report(step, 10, {"loss": 0.0}, 0.0)
    assert (report.texts_per_s, report.left_s) == (5, 2)


def test_several_monitors_hear_the_same():
    heard = Heard(), Heard()
    several = Several(*heard, Quiet())
    several.step(REPORT)
    several.scored(3, {"demi": 0.5})
    assert [one.told for one in heard] == [[REPORT, (3, {"demi": 0.5})]] * 2


def test_tensorboard_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ExtraMissing, match="tensorboard"):
        TensorBoard(tmp_path)


def test_tensorboard_gets_every_number(tmp_path, monkeypatch):
    written: list[object] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            written.append(folder)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def flush(self) -> None:
            written.append("flush")

        def close(self) -> None:
            written.append("close")

    fake = ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    monkeypatch.setattr(tensorboard, "require", lambda *_: None)
    board = TensorBoard(tmp_path)
    board.step(REPORT)
    assert written == [
        str(tmp_path),
        ("loss/all", 0.5, 3),
        ("learning rate", 1e-4, 3),
        ("texts/s", 80, 3),
        ("loss/demi", 0.75, 3),
        ("loss/tall", 0.25, 3),
    ]
    board.scored(3, {"demi": 0.5, "mean": 0.6})
    board.close()
    assert written[6:] == [("dev/demi", 0.5, 3), ("dev/mean", 0.6, 3), "flush", "close"]
