"""Two processes against one: the same batches, losses and weights."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from training_runs import heard_of

from edge_embed.model.checkpoint import load_checkpoint
from edge_embed.train.batches import RowDataset
from edge_embed.train.finetune import job_of
from edge_embed.train.gather import gather, is_main_process, this_part
from edge_embed.train.loop import plan_of
from edge_embed.train.prepare import prepare
from edge_embed.train.recipe import Recipe
from edge_embed.train.recipe_file import make_recipe
from edge_embed.train.run import Target, train_checkpoint

COMMAND = "import sys; sys.path.insert(0, sys.argv[1]); import test_parallel; test_parallel.train_all(sys.argv[2])"
TRAININGS: Mapping[str, Mapping[str, Any]] = {
    "srl": {"epochs": 2, "seed": 1},
    "2dmse": {"method": "2dmse", "head": "truncate", "accumulation": 2},
}


def train(values: Mapping[str, Any], name: str, batch_size: int) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """The losses of a training, and the weights it ends with."""
    training = prepare(make_recipe(Recipe, {**values, **TRAININGS[name], "batch_size": batch_size}))
    return list(heard_of(training).losses.values()), training.model.state_dict()


def gradients(values: Mapping[str, Any], batch_size: int) -> dict[str, Tensor]:
    """Those of the first batch of pairs; the optimizer would hide a factor that all of them share."""
    data = [entry for entry in values["data"] if entry["kind"] == "pairs"]
    training = prepare(make_recipe(Recipe, {**values, "data": data, "batch_size": batch_size}))
    training.model.encoder.backbone.pooler.requires_grad_(False)
    job = job_of(training)
    rows = RowDataset(job.store)
    batch = job.collate([rows[key] for key in next(iter(plan_of(job)))])
    alone = this_part().world == 1
    objective = job.objective if alone else nn.parallel.DistributedDataParallel(job.objective)
    objective(batch, 0)["loss"].backward()
    return {name: part.grad for name, part in job.objective.named_parameters() if part.grad is not None}


def train_all(place: str) -> None:
    """What each process does: train in every way, and leave losses and weights in a folder."""
    torch.set_num_threads(1)
    folder = Path(place)
    values = json.loads((folder / "values.json").read_text())
    for name in TRAININGS:
        losses, weights = train(values, name, 8)
        rank, world = this_part().rank, this_part().world
        assert world == 2
        (folder / f"{name}-{rank}.json").write_text(json.dumps(losses))
        safetensors.torch.save_file(weights, folder / f"{name}-{rank}.safetensors")
    safetensors.torch.save_file(gradients(values, 8), folder / f"gradients-{rank}.safetensors")
    uneven = {**values, "data": [{"place": str(folder / "uneven.tsv"), "kind": "pairs"}], "batch_size": 8}
    outcome = train_checkpoint(make_recipe(Recipe, {**uneven, "save_every": 1}), Target(folder / "checkpoint"))
    (folder / f"left-out-{rank}.json").write_text(json.dumps(dict(outcome.left_out)))


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


@pytest.fixture(scope="module")
def values(tiny_encoder, tiny_texts, tmp_path_factory) -> dict[str, Any]:
    """A recipe of four kinds of rows, 16 or 32 of each."""
    folder, one, two, three = tmp_path_factory.mktemp("rows"), tiny_texts[:16], tiny_texts[16:32], tiny_texts[32:48]
    rows = {
        "texts": [(text,) for text in tiny_texts[32:]],
        "pairs": list(zip(tiny_texts[:32], tiny_texts[32:], strict=True)),
        "triplets": list(zip(one, two, three, strict=True)),
        "scored": [(*pair, str(place)) for place, pair in enumerate(zip(one, three, strict=True))],
    }
    for kind, table in rows.items():
        header = "\t".join("abc"[: len(table[0])])
        (folder / f"{kind}.tsv").write_text("\n".join([header, *map("\t".join, table)]) + "\n")
    data = [{"place": str(folder / f"{kind}.tsv"), "kind": kind} for kind in rows]
    return {"base": str(tiny_encoder), "data": data, "tiers": "1x8,2x16,3x32", "max_tokens": 12, "precision": "fp32"}


@pytest.fixture(scope="module")
def folder(values, tiny_texts, tmp_path_factory) -> Path:
    """What two processes left."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "values.json").write_text(json.dumps(values))
    uneven = [f"{one}\t{other}" for one, other in zip(tiny_texts[:17], tiny_texts[17:34], strict=True)]
    (folder / "uneven.tsv").write_text("\n".join(["a\tb", *uneven]) + "\n")
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", COMMAND, str(Path(__file__).parent), str(folder)],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        printed = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(printed)
    return folder


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_train_what_one_does(values, folder, name):
    losses, weights = train(values, name, 16)
    assert len(losses) >= 8 and len({round(step["loss"], 3) for step in losses}) > 4
    for rank in range(2):
        found = json.loads((folder / f"{name}-{rank}.json").read_text())
        assert [pytest.approx(step, abs=1e-5) for step in losses] == found
        again = safetensors.torch.load_file(folder / f"{name}-{rank}.safetensors")
        assert again.keys() == weights.keys()
        # a key's bias adds the same to all scores of a query, so that its gradient is rounding alone
        untrained = {part for part in weights if part.endswith(".key.bias")}
        for part in weights.keys() - untrained:
            torch.testing.assert_close(again[part], weights[part], atol=1e-5, rtol=0, msg=part)


def test_two_processes_have_the_gradients_of_one(values, folder):
    expected = gradients(values, 16)
    assert max(part.abs().max() for part in expected.values()) > 0.1
    for rank in range(2):
        found = safetensors.torch.load_file(folder / f"gradients-{rank}.safetensors")
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_one_process_writes_for_all(folder):
    model, origin = load_checkpoint(folder / "checkpoint")
    assert len(model.ladder) == 3 and origin.data.keys() == {"uneven.tsv"}
    assert not (folder / "checkpoint.work").exists()
    assert [json.loads((folder / f"left-out-{rank}.json").read_text()) for rank in range(2)] == [{}, {}]


def test_one_process_gathers_nothing():
    assert is_main_process() and (this_part().rank, this_part().world) == (0, 1)
    values = torch.randn(6, 3)
    assert gather(values, 2, this_part()) is values
