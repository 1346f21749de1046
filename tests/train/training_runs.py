"""What tests listen to and look at in a training."""

from collections.abc import Mapping

import torch
from torch import Tensor

from edge_embed.train.finetune import fine_tune
from edge_embed.train.monitor import StepReport
from edge_embed.train.prepare import Training


class Heard:
    """Keeps what it is told; dies when it has heard of as many steps as asked."""

    def __init__(self, *, die_after: int = 0) -> None:
        self.steps: list[StepReport] = []
        self.scores: list[tuple[int, dict[str, float]]] = []
        self._die_after = die_after

    def step(self, report: StepReport) -> None:
        self.steps.append(report)
        if len(self.steps) == self._die_after:
            raise KeyboardInterrupt

    def scored(self, step: int, scores: Mapping[str, float]) -> None:
        self.scores.append((step, dict(scores)))

    @property
    def numbers(self) -> list[int]:
        return [report.step for report in self.steps]

    @property
    def losses(self) -> dict[int, dict[str, float]]:
        """Step to its losses, that of all views as `loss`."""
        return {report.step: {"loss": report.loss, **report.losses} for report in self.steps}


def heard_of(training: Training, **how: object) -> Heard:
    """Run it, and what was told."""
    heard = Heard()
    fine_tune(training, monitor=heard, **how)
    return heard


def weights_of(training: Training) -> dict[str, Tensor]:
    """As they are now."""
    return {name: tensor.clone() for name, tensor in training.model.state_dict().items()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two models are equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
