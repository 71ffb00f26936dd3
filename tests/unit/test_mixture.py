"""The mixture of Gaussians, conditioned on what is known: the exact answers of the benchmarks."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from benchmarks import mixture
from benchmarks.mixture import Mixture

paintings = cache(mixture.load_mixture)
COLOR = torch.tensor([0.1, -0.2, 0.3]).double()
RIGHT = torch.zeros(8, 8).index_fill(1, torch.arange(4, 8), 1.0)  # free

PLANE = Mixture(
    torch.tensor([0.3, 0.7]).double(),
    torch.tensor([[-1.0, 0.5], [0.8, -0.2]]).double(),
    torch.tensor([[[0.5, 0.2], [0.2, 0.3]], [[0.2, -0.1], [-0.1, 0.6]]]).double(),
)


def test_a_mean_colour_is_conditioned_on_as_the_formulas_for_one_gaussian_say():
    whole, found = paintings(), paintings().given_mean_color(COLOR)
    likelihoods = []
    for k in range(len(whole.weights)):
        covariance = whole.covariances[k].view(3, 64, 3, 64)
        cross = covariance.mean(dim=3).reshape(192, 3)  # of pixels and mean colour
        spread = covariance.mean(dim=(1, 3))
        mean = whole.means[k].view(3, 64).mean(dim=1)
        inverse = torch.linalg.inv(spread)
        expected = whole.means[k] + cross @ inverse @ (COLOR - mean)
        torch.testing.assert_close(found.means[k], expected, atol=1e-8, rtol=0)
        expected = whole.covariances[k] - cross @ inverse @ cross.T
        torch.testing.assert_close(found.covariances[k], expected, atol=1e-8, rtol=0)
        off = COLOR - mean
        likelihoods.append(torch.exp(-off @ inverse @ off / 2) / spread.det().sqrt())
    expected = whole.weights * torch.stack(likelihoods)
    torch.testing.assert_close(found.weights, expected / expected.sum(), atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("value", [-1.0, 0.2, 1.5])
@pytest.mark.parametrize("row", [(1.0, 2.0), (1.0, 0.0), (-0.4, 1.0)], ids=str)
def test_a_known_sum_gives_the_moments_of_the_density_along_its_line(
    row: tuple[float, float], value: float
):
    matrix = torch.tensor([row]).double()
    found = PLANE.given(matrix, torch.tensor([value])).moments()
    direction = torch.tensor([-row[1], row[0]]).double()
    start = matrix[0] * value / matrix.square().sum()
    way = torch.linspace(-8, 8, 20_001).double()
    points = start + way[:, None] * direction / direction.norm()
    density = sum(
        weight * MultivariateNormal(mean, covariance).log_prob(points).exp()
        for weight, mean, covariance in zip(
            PLANE.weights, PLANE.means, PLANE.covariances, strict=True
        )
    )
    assert isinstance(density, Tensor)
    density = density / density.sum()
    mean = density @ points
    offsets = points - mean
    covariance = (offsets * density[:, None]).T @ offsets
    torch.testing.assert_close(torch.from_numpy(found.mean), mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.from_numpy(found.covariance), covariance, atol=1e-6, rtol=0)


def test_pictures_of_known_pixels_have_them_and_differ_elsewhere():
    whole = paintings()
    picture = whole.sample(1, seed=3)[0]
    drawn = whole.given_pixels(picture, RIGHT).sample(64, seed=0)
    known = picture[..., :4].expand(64, -1, -1, -1)
    torch.testing.assert_close(drawn[..., :4], known, atol=1e-3, rtol=0)
    assert float(drawn[..., 4:].std(dim=0).min()) > 0.05


@pytest.mark.slow
def test_pictures_of_known_pixels_come_as_they_do_among_all():
    """Bayes over nested draws: known parts of draws, then draws of the rest, are draws of all."""
    whole = paintings()
    picked = whole.sample(300, seed=5)
    drawn = torch.cat(
        [whole.given_pixels(picture, RIGHT).sample(1, seed=i) for i, picture in enumerate(picked)]
    )
    plain, exact = (x.double().flatten(1) for x in (picked, drawn))
    scale = plain.std(dim=0) / len(plain) ** 0.5
    assert ((plain.mean(dim=0) - exact.mean(dim=0)).abs() < 5 * scale).all()
    # Whole pictures hang together across the edge as real ones do, which mixing them would undo.
    mixed = torch.cat([picked[..., :4], drawn.roll(1, dims=0)[..., 4:]], dim=-1)

    def step(x: Tensor) -> float:
        return float((x[..., 4] - x[..., 3]).square().mean())

    assert step(drawn) == pytest.approx(step(picked), rel=0.15)
    assert step(mixed) > 2 * step(picked)


def test_what_is_known_twice_is_known_once():
    picture = paintings().sample(1, seed=9)[0]
    left = paintings().given_pixels(picture, RIGHT)
    both = torch.eye(192).double()[:2], picture.flatten()[:2]  # two pixels of its left half
    noisy = Mixture(left.weights, left.means, left.covariances + 1e-6 * torch.eye(192).double())
    again = noisy.given(*both)
    torch.testing.assert_close(again.means, left.means, atol=1e-3, rtol=0)
    torch.testing.assert_close(again.weights, left.weights, atol=1e-3, rtol=0)
