"""Leading directions and least-squares heads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edge_embed.model.encoder import load_encoder
from edge_embed.model.tiered import TieredEncoder
from edge_embed.train.fit import fit_heads, kept_directions, leading_directions, least_squares
from edge_embed_runtimes.tiers import parse_ladder


def uneven(seed: int, rows: int = 200, dim: int = 12) -> Tensor:
    """Unit vectors about a common direction, of unlike spread along each axis, turned at random."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, dim, generator=generator) * torch.linspace(2, 0.1, dim)
    values[:, 0] += 3
    turn, _ = torch.linalg.qr(torch.randn(dim, dim, generator=generator))
    return functional.normalize(values @ turn, dim=1)


def test_directions_are_orthogonal_and_keep_every_cosine():
    vectors = uneven(0)
    basis = leading_directions(vectors)
    assert basis.dtype == torch.float32 and basis.shape == (12, 12)
    torch.testing.assert_close(basis.T @ basis, torch.eye(12), atol=1e-6, rtol=0)
    turned = vectors @ basis
    torch.testing.assert_close(turned @ turned.T, vectors @ vectors.T, atol=1e-6, rtol=0)


def test_the_strongest_direction_comes_first():
    vectors = uneven(0)
    energy = (vectors @ leading_directions(vectors)).square().sum(0)
    assert torch.equal(energy, energy.sort(descending=True).values)
    # about the origin: a centred analysis would give other values
    values = np.linalg.svd(vectors.double().numpy(), compute_uv=False)
    np.testing.assert_allclose(energy.numpy(), values**2, rtol=1e-5)


def test_kept_directions_are_those_that_the_vectors_follow():
    teacher = uneven(0)
    turn = torch.linalg.qr(torch.randn(12, 5, generator=torch.Generator().manual_seed(7)))[0]
    found = kept_directions(teacher, teacher @ turn)
    assert found.dtype == torch.float32 and found.shape == (12, 5)
    torch.testing.assert_close(found.T @ found, torch.eye(5), atol=1e-6, rtol=0)
    cosines = functional.cosine_similarity(teacher @ found, teacher @ turn, dim=1)
    other = functional.cosine_similarity(teacher @ leading_directions(teacher)[:, :5], teacher @ turn, dim=1)
    assert cosines.mean() > 0.99 and other.mean() < 0.9


def test_the_sign_is_fixed():
    vectors = uneven(1)
    basis = leading_directions(vectors)
    for seed in range(4):
        order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(leading_directions(vectors[order]), basis, atol=1e-5, rtol=0)
    torch.testing.assert_close(leading_directions(-vectors), basis, atol=1e-5, rtol=0)
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    assert (largest > 0).all()


def test_directions_of_few_vectors():
    vectors = uneven(2, rows=3)
    basis = leading_directions(vectors)
    torch.testing.assert_close(basis.T @ basis, torch.eye(12), atol=1e-6, rtol=0)
    assert (vectors @ basis)[:, 3:].abs().max() < 1e-5


def test_least_squares_is_that_of_numpy():
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(5000, 8, generator=generator), torch.randn(5000, 3, generator=generator)
    targets += inputs[:, :3]
    expected, *_ = np.linalg.lstsq(inputs.double().numpy(), targets.double().numpy())
    found = least_squares(inputs, targets)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-3)


def test_least_squares_does_not_depend_on_how_many_times_each_row_counts():
    inputs, targets = uneven(0), uneven(1)[:, :4]
    torch.testing.assert_close(
        least_squares(inputs.repeat(7, 1), targets.repeat(7, 1)), least_squares(inputs, targets), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("rows", [1, 2, 6])
def test_fewer_rows_than_columns(rows):
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(rows, 12, generator=generator), torch.randn(rows, 4, generator=generator)
    found = least_squares(inputs, targets)
    assert found.shape == (12, 4) and found.isfinite().all()
    torch.testing.assert_close(inputs @ found, targets, atol=0.02, rtol=0.02)
    shortest = np.linalg.pinv(inputs.double().numpy()) @ targets.double().numpy()
    np.testing.assert_allclose(found.numpy(), shortest, atol=0.02)


def test_fit_heads_gives_the_top_the_directions(tiny_encoder: Path):
    model = TieredEncoder(load_encoder(str(tiny_encoder)), parse_ladder("1x8,2x16,3x24"), "project")
    teacher, noise = uneven(0, dim=32), torch.randn(200, 32, generator=torch.Generator().manual_seed(9))
    pooled = {1: teacher + 0.2 * noise, 2: teacher + 0.1 * noise, 3: teacher * 5}
    basis = leading_directions(teacher)
    fit_heads(model, pooled, teacher, basis, full=3)
    heads = {tier.name: model.head_of(tier).weight.detach().T for tier in model.ladder}
    assert torch.equal(heads["tall"], basis[:, :24])
    for name, layer, dim in (("demi", 1, 8), ("short", 2, 16)):
        assert torch.equal(heads[name], least_squares(pooled[layer], teacher @ basis[:, :dim]))


def test_fit_heads_of_a_ladder_below_the_full_layer(tiny_encoder: Path):
    model = TieredEncoder(load_encoder(str(tiny_encoder)), parse_ladder("1x8,2x16"), "project")
    teacher = uneven(0, dim=32)
    basis = leading_directions(teacher)
    pooled = {1: uneven(1, dim=32), 2: uneven(2, dim=32)}
    fit_heads(model, pooled, teacher, basis, full=3)
    top = model.head_of(model.ladder.top).weight.detach().T
    assert torch.equal(top, least_squares(pooled[2], teacher @ basis[:, :16]))
    assert not torch.equal(top, basis[:, :16])
