"""The loop: transformers' Trainer over any objective, with our batches, scores and guard."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypedDict

import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import DataLoader

from edge_embed.train.alike import Alike
from edge_embed.train.batches import Key, Plan, RowDataset
from edge_embed.train.gather import join_processes, this_part
from edge_embed.train.monitor import Clock, Monitor, Quiet
from edge_embed.train.recipe import LoopSettings
from edge_embed.train.resume import last_state
from edge_embed.train.store import RowStore, StoredRow
from edge_embed_runtimes.errors import RecipeError

MEAN = "mean"


@dataclass(frozen=True, slots=True)
class Dev:
    """Scores of a model that is being trained.

    Attributes:
        score: gives tier to score, higher is better.
        every: steps between two scorings.
        patience: scorings without a better mean after which training ends, with the best weights; 0 for never.
    """

    score: Callable[[], Mapping[str, float]]
    every: int
    patience: int = 0


class StepBatch(Protocol):
    """What an objective takes, as far as the loop must know."""

    @property
    def input_ids(self) -> Tensor:
        """(texts, tokens) int64."""

    @property
    def stored(self) -> tuple[int, ...]:
        """The ids of its rows in their store."""

    def to(self, device: torch.device) -> "StepBatch":
        """The same on a device."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a loop runs.

    Attributes:
        objective: its `forward(batch, step)` gives the losses of a batch by name, the one to make smaller as `loss`.
        collate: rows to the batch that the objective takes.
        alike: puts alike rows into one batch; None leaves that to chance.
        rates: layers of the objective, by the start of their parameters' names, to their share of the learning rate;
            what is not named has all of it.
    """

    objective: nn.Module
    settings: LoopSettings
    store: RowStore
    collate: Callable[[Sequence[tuple[Key, StoredRow]]], StepBatch]
    dev: Dev | None = None
    alike: Alike | None = None
    rates: Mapping[str, float] = field(default_factory=dict)


class _Inputs(TypedDict):
    """The Trainer wants a mapping."""

    batch: StepBatch


def run_loop(job: Job, *, work: Path | None = None, monitor: Monitor | None = None) -> None:
    """Train an objective in place.

    Args:
        work: where states are saved from which a killed training goes on; if one is there, it is gone on from.
            None: nothing is saved.

    Raises:
        RecipeError: the loss, or a gradient, is no number any more.
    """
    join_processes()
    _prepare_modules(job)
    plan = plan_of(job)
    if len(plan):
        _train(job, plan, work, monitor or Quiet())
    job.objective.cpu().eval()


def _train(job: Job, plan: Plan, work: Path | None, monitor: Monitor) -> None:
    with ExitStack() as stack:
        folder = work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        trainer = _Trainer(
            job=job,
            plan=plan,
            monitor=monitor,
            model=job.objective,
            args=_arguments(job, folder, batches=len(plan), save=work is not None),
            eval_dataset=RowDataset(job.store),  # never read: `evaluate` is our own
            callbacks=_callbacks(job),
        )
        trainer.add_callback(_Steps(trainer.report))
        trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
        state = last_state(folder)
        trainer.train(resume_from_checkpoint=str(state) if state else None)


def plan_of(job: Job) -> Plan:
    """The batches of a job, for this process."""
    settings = job.settings
    return Plan(
        job.store,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        part=this_part(),
        alike=job.alike,
    )


class _Trainer(transformers.Trainer):
    """The Trainer with our batches, loss, scores, and a guard against losses that are no numbers."""

    def __init__(self, *, job: Job, plan: Plan, monitor: Monitor, **settings: Any) -> None:
        super().__init__(**settings)
        self._job = job
        self._plan = plan
        self._monitor = monitor
        self._clock = Clock()
        self._rows: tuple[int, ...] = ()
        self._losses: dict[str, float] = {}

    def get_train_dataloader(self) -> DataLoader[_Inputs]:
        """Our own plan of batches, of which this process has its part already."""
        collate = self._job.collate
        return DataLoader(
            RowDataset(self._job.store),  # type: ignore[arg-type]  # the loader's type is of what is collated
            batch_sampler=self._plan,
            collate_fn=lambda rows: {"batch": collate(rows)},
            pin_memory=False,
        )

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW without decay, with the job's learning rates."""
        groups = _groups(self._job, self.args.learning_rate)
        self.optimizer: Any = torch.optim.AdamW(groups, weight_decay=0.0, fused=True)
        return self.optimizer

    def compute_loss(
        self, model: nn.Module, inputs: _Inputs, return_outputs: bool = False, num_items_in_batch: Tensor | None = None
    ) -> Tensor:
        batch = inputs["batch"].to(self.args.device)
        losses = model(batch, self.state.global_step)
        self._rows = batch.stored
        self._losses = {name: float(loss.detach()) for name, loss in losses.items()}
        loss: Tensor = losses["loss"]
        self._check_finite("the loss", loss)
        self._clock.count(len(batch.input_ids))
        return loss

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        norm: Tensor = super()._clip_grad_norm(model)
        self._check_finite("the gradient", norm)
        return norm

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score on the dev set; the mean decides when to stop."""
        if self._job.dev is None:
            return {}
        scores = dict(self._job.dev.score())
        scores[MEAN] = sum(scores.values()) / len(scores)
        self._monitor.scored(self.state.global_step, scores)
        metrics = {f"eval_{name}": score for name, score in scores.items()}
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def report(self) -> None:
        """Tell how far the training is."""
        report = self._clock.report(self.state.global_step, self.state.max_steps, self._losses, self._rate())
        self._monitor.step(report)

    def _rate(self) -> float:
        return float(self.lr_scheduler.get_last_lr()[0])

    def _check_finite(self, what: str, value: Tensor) -> None:
        if torch.isfinite(value):
            return
        rows = "; ".join(self._job.store.where(row) for row in self._rows[:5])
        more = f" and {len(self._rows) - 5} more" if len(self._rows) > 5 else ""
        raise RecipeError(
            f"{what} is {value.item()} in step {self.state.global_step + 1}, with learning_rate "
            f"{self._job.settings.learning_rate:g}: choose a smaller one, and check the base encoder's weights and "
            f"these rows: {rows}{more}"
        )


class _Steps(transformers.TrainerCallback):
    """Tells of every step."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell

    def on_step_end(
        self, args: object, state: transformers.TrainerState, control: transformers.TrainerControl, **_: object
    ) -> None:
        self._tell()


def _prepare_modules(job: Job) -> None:
    """Set dropout, leave out what takes no part, trade time for memory where asked."""
    for name, module in job.objective.named_modules():
        if isinstance(module, nn.Dropout):
            module.p = job.settings.dropout
        if name.endswith(".pooler"):  # no vector comes from it, and parallel training wants a gradient for all
            module.requires_grad_(False)
        if isinstance(module, transformers.PreTrainedModel) and job.settings.gradient_checkpointing:
            module.config.use_cache = False  # else transformers says that the two don't go together
            # the name in transformers 5.23; before, it was called after gradients
            enable = getattr(module, "activation_checkpointing_enable", module.gradient_checkpointing_enable)
            enable({"use_reentrant": False})


def _groups(job: Job, learning_rate: float) -> list[dict[str, Any]]:
    """The parameters that are trained, in groups of one learning rate."""
    groups: dict[float, list[nn.Parameter]] = {1.0: []}
    for name, parameter in job.objective.named_parameters():
        if parameter.requires_grad:
            share = next((share for start, share in job.rates.items() if name.startswith(start)), 1.0)
            groups.setdefault(share, []).append(parameter)
    return [{"params": group, "lr": share * learning_rate} for share, group in groups.items() if group]


def _callbacks(job: Job) -> list[transformers.TrainerCallback]:
    if job.dev is None or not job.dev.patience:
        return []
    return [transformers.EarlyStoppingCallback(job.dev.patience)]


def _arguments(job: Job, folder: Path, *, batches: int, save: bool) -> transformers.TrainingArguments:
    settings, dev = job.settings, job.dev
    best = bool(dev and dev.patience)
    steps = -(-batches // settings.accumulation)
    save_every = dev.every if dev and best else settings.save_every if save else 0
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        max_steps=steps,
        learning_rate=settings.learning_rate,
        warmup_steps=round(settings.warmup * steps),
        lr_scheduler_type="cosine",
        seed=settings.seed,
        data_seed=settings.seed,
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        eval_strategy="steps" if dev else "no",
        eval_steps=dev.every if dev else None,
        load_best_model_at_end=best,
        restore_callback_states_from_checkpoint=best,
        metric_for_best_model=f"eval_{MEAN}" if best else None,
        greater_is_better=True if best else None,
        save_strategy="steps" if save_every else "no",
        save_steps=save_every or 500,
        save_total_limit=2,
        logging_strategy="no",
        disable_tqdm=True,
        report_to="none",
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # several GPUs are for several processes; a batch can't be split
    return arguments
