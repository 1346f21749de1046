"""Losses and scores for TensorBoard."""

from collections.abc import Mapping
from pathlib import Path

from edge_embed.extras import require
from edge_embed.train.monitor import StepReport


class TensorBoard:
    """A monitor that writes event files.

    Raises:
        ExtraMissing: tensorboard isn't installed.
    """

    def __init__(self, folder: Path) -> None:
        require("tensorboard", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def step(self, report: StepReport) -> None:
        """See `Monitor.step`."""
        values = {"loss/all": report.loss, "learning rate": report.learning_rate, "texts/s": report.texts_per_s}
        values.update({f"loss/{name}": loss for name, loss in report.losses.items()})
        for name, value in values.items():
            self._writer.add_scalar(name, value, report.step)

    def scored(self, step: int, scores: Mapping[str, float]) -> None:
        """See `Monitor.scored`."""
        for name, score in scores.items():
            self._writer.add_scalar(f"dev/{name}", score, step)
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
