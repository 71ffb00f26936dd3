"""What is undecided of a picture: its covariance, and how a known part moves all of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.diffusion import undecided as module
from pipelines.diffusion.losses import Downsampled, GreyIs, Keep
from pipelines.diffusion.tensors import rms
from pipelines.diffusion.undecided import AXES, FALL, LOWEST, POWERS, Undecided, undecided

SHAPE = (3, 6, 5)
EVEN = (3, 6, 4)  # sides that have a factor of 2


def levels(snr: float) -> tuple[Tensor, Tensor]:
    """Signal and noise levels of a ratio of powers."""
    return torch.tensor(snr / (1 + snr)).sqrt(), torch.tensor(1 / (1 + snr)).sqrt()


def at(snr: float, shape: tuple[int, int, int] = SHAPE) -> Undecided:
    """The covariance in float64, so that sums are as exact as they look."""
    return Undecided(undecided(shape, *levels(snr)).variances.double())


def pictures(count: int, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *shape, generator=generator, dtype=torch.float64)


def dense(function: Callable[[Tensor], Tensor], shape: tuple[int, int, int]) -> Tensor:
    """The matrix `(d, d)` of a linear function of pictures."""
    each = torch.eye(math.prod(shape), dtype=torch.float64).view(-1, *shape)
    return function(each).flatten(1).T


def some_pixels(shape: tuple[int, ...] = SHAPE) -> Tensor:
    """A mask `(h, w)` of 0, known, and 1, free."""
    generator = torch.Generator().manual_seed(5)
    return (torch.rand(shape[1:], generator=generator) < 0.6).double()


FACTS: dict[str, tuple[tuple[int, int, int], Any]] = {
    "mask": (SHAPE, Keep(torch.zeros(SHAPE), some_pixels())),
    "averages": (EVEN, Downsampled(torch.zeros(3, 3, 2), 2)),
    "grey": (SHAPE, GreyIs(torch.zeros(SHAPE[1:]))),
}
each_fact = pytest.mark.parametrize(("shape", "fact"), FACTS.values(), ids=FACTS)


# --- the covariance ------------------------------------------------------------------------------


@pytest.mark.parametrize("snr", [0.0, 0.01, 1.0, 100.0])
@pytest.mark.parametrize("shape", [SHAPE, (1, 6, 5), (3, 1, 1)], ids=str)
def test_the_covariance_is_symmetric_and_positive(shape: tuple[int, int, int], snr: float):
    covariance = dense(at(snr, shape).spread, shape)
    torch.testing.assert_close(covariance, covariance.T, atol=1e-5, rtol=1e-5)
    assert torch.linalg.eigvalsh((covariance + covariance.T) / 2).min() > 0


@pytest.mark.parametrize("snr", [0.01, 1.0, 100.0])
def test_the_covariance_is_the_inverse_of_that_of_pictures_with_the_snr_added(snr: float):
    prior = dense(at(0.0).spread, SHAPE)
    expected = torch.linalg.inv(torch.linalg.inv(prior) + snr * torch.eye(len(prior)).double())
    torch.testing.assert_close(dense(at(snr).spread, SHAPE), expected, atol=1e-5, rtol=1e-4)


def laplacian(side: int) -> Tensor:
    """The negative second differences `(side, side)` of a row without slope at its ends."""
    differences = torch.eye(side, dtype=torch.float64).diff(dim=0)
    return differences.T @ differences


def test_the_spectrum_is_that_of_its_formula_in_the_laplacian():
    rows, columns = (torch.eye(side, dtype=torch.float64) for side in SHAPE[1:])
    whole = torch.kron(laplacian(SHAPE[1]), columns) + torch.kron(rows, laplacian(SHAPE[2]))
    eye = torch.eye(len(whole), dtype=torch.float64)
    space = torch.linalg.inv((whole + LOWEST * eye) @ (eye + whole / FALL))
    axes = F.normalize(torch.tensor([*AXES.values()]).double(), dim=1)
    colors = axes.T @ torch.diag(torch.tensor(POWERS).double()) @ axes
    expected = torch.kron(colors.contiguous(), space.contiguous())
    torch.testing.assert_close(dense(at(0.0).spread, SHAPE), expected, atol=1e-2, rtol=1e-3)


def test_neighbours_go_together_the_more_the_noisier_the_picture():
    correlations = []
    for snr in (100.0, 1.0, 0.01):
        covariance = dense(at(snr, (1, 8, 8)).spread, (1, 8, 8))
        scale = covariance.diagonal().sqrt()
        correlations.append(float((covariance / scale / scale[:, None])[27, 28]))
    assert correlations == sorted(correlations)
    assert correlations[0] < 0.2
    assert correlations[-1] > 0.8


# --- moving what is known -------------------------------------------------------------------------


def solved(space: Undecided, onto: Callable[[Tensor], Tensor], residual: Tensor) -> Tensor:
    """`C Q (Q C Q)^+ r` with matrices."""
    shape = (residual.shape[1], residual.shape[2], residual.shape[3])
    covariance, known = dense(space.spread, shape), dense(onto, shape)
    inverse = torch.linalg.pinv(known @ covariance @ known.T, rtol=1e-9, hermitian=True)
    return (covariance @ known.T @ inverse @ residual.flatten(1).T).T.view_as(residual)


@each_fact
@pytest.mark.parametrize("snr", [0.001, 0.1, 10.0])
def test_a_move_is_the_answer_of_a_dense_solver(
    shape: tuple[int, int, int], fact: Any, snr: float, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_TOLERANCE", 1e-7)
    monkeypatch.setattr(module, "_MOST_ITERATIONS", 300)
    space, residual = at(snr, shape), fact.onto(pictures(3, shape))
    found = space.moved(fact.onto, residual)
    torch.testing.assert_close(
        found, solved(space, fact.onto, residual), atol=1e-4, rtol=1e-4, check_dtype=False
    )
    torch.testing.assert_close(fact.onto(found), residual, atol=1e-5, rtol=1e-5)


LARGE = (3, 64, 64)
SQUARES = (torch.rand(16, 16, generator=torch.Generator().manual_seed(2)) < 0.5).float()
MASKS = {
    "squares": SQUARES.repeat_interleave(4, 0).repeat_interleave(4, 1),  # the hardest
    "block": F.pad(torch.ones(32, 32), [16] * 4),
    "border": 1 - F.pad(torch.ones(48, 48), [8] * 4),
}


def missing(kind: str) -> tuple[Keep, Tensor]:
    """A fact, and what four pictures of the model's size lack of it, in float32."""
    keep = Keep(torch.zeros(LARGE), MASKS[kind])
    smooth = F.interpolate(pictures(4, (3, 8, 8)).float(), LARGE[1:], mode="bicubic")
    return keep, keep.onto(0.3 * smooth + 0.1 * pictures(4, LARGE, seed=1).float())


@pytest.mark.parametrize(
    ("kind", "snr", "most"),
    [
        *itertools.product(("squares", "block", "border"), (1.0, 100.0), (0.03,)),
        *itertools.product(("block",), (1e-4, 0.1), (0.03,)),
        *itertools.product(("border",), (1e-4, 0.1), (0.2,)),
        ("squares", 0.1, 0.4),  # many corners at much noise: a few iterations are not enough
    ],
)
def test_a_few_iterations_come_near_what_is_known(kind: str, snr: float, most: float):
    keep, residual = missing(kind)
    found = undecided(LARGE, *levels(snr)).moved(keep.onto, residual)
    left = rms(keep.onto(found) - residual) / rms(residual)
    assert (left < most).all()


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("snr", [1e-4, 0.1, 100.0])
def test_a_move_does_not_depend_on_the_batch(kind: str, snr: float):
    keep, residual = missing(kind)
    residual = residual * torch.tensor([1.0, 50.0, 0.0, 1e-3]).view(-1, 1, 1, 1)
    space = undecided(LARGE, *levels(snr))
    together = space.moved(keep.onto, residual)
    for i in range(4):
        alone = space.moved(keep.onto, residual[i : i + 1])[0]
        scale = float(residual[i].abs().max())
        torch.testing.assert_close(together[i], alone, atol=1e-3 * scale, rtol=0)
    assert torch.equal(together[2], torch.zeros_like(together[2]))


@each_fact
def test_of_a_picture_that_is_decided_only_the_known_part_moves(
    shape: tuple[int, int, int], fact: Any
):
    residual = fact.onto(pictures(2, shape))
    found = at(1e7, shape).moved(fact.onto, residual)
    torch.testing.assert_close(found, residual, atol=1e-3, rtol=0)


def test_the_rest_follows_the_farther_the_noisier_the_picture():
    keep = FACTS["mask"][1]
    residual = keep.onto(torch.ones(1, *SHAPE, dtype=torch.float64))
    followed = []
    for snr in (1e5, 100.0, 1.0, 1e-3):
        moved = at(snr).moved(keep.onto, residual)
        followed.append(float(moved[:, :, some_pixels() == 1].mean()))
    assert followed == sorted(followed)
    assert followed[0] < 0.01
    assert followed[-1] > 0.9


def test_a_border_that_moves_evenly_moves_the_inside_evenly():
    mask = F.pad(torch.ones(12, 12), [2] * 4, value=0.0)
    mask = 1 - (1 - mask)  # free inside
    keep = Keep(torch.zeros(3, 16, 16), mask)
    wanted = torch.tensor([0.4, -0.2, 0.1]).double().view(1, 3, 1, 1)
    residual = keep.onto(wanted.expand(1, 3, 16, 16))
    found = at(1e-4, (3, 16, 16)).moved(keep.onto, residual)
    torch.testing.assert_close(found, wanted.expand_as(found), atol=0.03, rtol=0)


def test_grey_moves_all_channels_of_three_as_it_moves_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_TOLERANCE", 1e-6)
    monkeypatch.setattr(module, "_MOST_ITERATIONS", 100)
    mask, residual = some_pixels(), (1 - some_pixels()) * pictures(2, (1, 6, 5))
    prior = [at(0.0, (channels, 6, 5)) for channels in (1, 3)]
    torch.testing.assert_close(prior[0].variances[0] * 3, prior[1].variances[0])
    one, three = (
        space.moved(
            Keep(torch.zeros(len(space.variances), 6, 5), mask).onto,
            residual.expand(-1, len(space.variances), -1, -1),
        )
        for space in prior
    )
    assert one.shape == (2, 1, 6, 5)
    torch.testing.assert_close(three, one.expand_as(three), atol=1e-4, rtol=0)
