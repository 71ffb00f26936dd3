"""Pictures made worse: cropped, turned, blurred and noisy, the same way for the same generator."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.clip import degrade
from training.clip.degrade import degraded

COUNT = 32


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ramp(count: int = COUNT) -> Tensor:
    """Pictures whose red grows to the right and whose green grows downwards, `(n, 3, 72, 72)`."""
    line = torch.linspace(-1, 1, 72)
    picture = torch.stack([line.expand(72, 72), line[:, None].expand(72, 72), torch.zeros(72, 72)])
    return picture.expand(count, 3, 72, 72)


@pytest.fixture
def noiseless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(degrade, "NOISY", 0.0)


@pytest.fixture
def sharp(noiseless: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(degrade, "BLURRED", 0.0)


@pytest.mark.parametrize("size", [32, 64, 80])
def test_the_result_has_the_size_that_was_asked_for(size: int):
    assert degraded(ramp(3), size, seeded()).shape == (3, 3, size, size)


def test_the_same_generator_gives_the_same_pictures_and_another_others():
    first = degraded(ramp(), 64, seeded(1))
    assert torch.equal(first, degraded(ramp(), 64, seeded(1)))
    assert not torch.equal(first, degraded(ramp(), 64, seeded(2)))


def test_the_pictures_given_are_left_as_they_are():
    given = ramp().clone()
    degraded(given, 64, seeded())
    assert torch.equal(given, ramp())


@pytest.mark.usefixtures("noiseless")
def test_a_constant_picture_stays_constant_without_noise():
    colors = torch.tensor([0.8, -0.3, -1.0]).view(1, 3, 1, 1)
    found = degraded(colors.expand(COUNT, 3, 72, 72), 64, seeded())
    torch.testing.assert_close(found, colors.expand(COUNT, 3, 64, 64), rtol=0, atol=1e-5)


@pytest.mark.usefixtures("noiseless")
def test_without_noise_no_value_leaves_the_range():
    generator = seeded()
    random = torch.rand(COUNT, 3, 72, 72, generator=generator) * 2 - 1
    assert degraded(random, 64, generator).abs().max() <= 1 + 1e-5


def test_some_pictures_are_noisy_and_none_more_than_allowed():
    found = degraded(torch.zeros(400, 3, 72, 72), 32, seeded())
    deviations = found.flatten(1).std(dim=1)
    noisy = deviations > 0
    assert abs(noisy.float().mean() - degrade.NOISY) < 0.1
    assert 0.8 * degrade.MAX_NOISE < deviations.max() < 1.1 * degrade.MAX_NOISE
    assert found.flatten(1)[noisy].mean().abs() < 0.01


@pytest.mark.usefixtures("sharp")
def test_about_half_of_the_pictures_are_mirrored_and_none_stands_on_its_head():
    found = degraded(ramp(400), 32, seeded())
    rightwards = (found[:, 0, :, -1] - found[:, 0, :, 0]).mean(dim=1)
    downwards = (found[:, 1, -1] - found[:, 1, 0]).mean(dim=1)
    assert 0.4 < (rightwards < 0).float().mean() < 0.6
    assert (downwards > 0).all()


@pytest.mark.usefixtures("sharp")
def test_crops_have_between_a_third_and_all_of_the_area_and_are_spread_over_the_picture():
    found = degraded(ramp(400), 32, seeded())
    sides = (found[:, 1, -1].mean(dim=1) - found[:, 1, 0].mean(dim=1)) / (2 * 31 / 32)
    assert degrade.LEAST_SIDE - 0.03 < sides.min() < degrade.LEAST_SIDE + 0.1
    assert 0.93 < sides.max() < 1.03
    middles = found[:, 0].mean(dim=(1, 2))
    assert middles.min() < -0.2
    assert middles.max() > 0.2


@pytest.mark.usefixtures("noiseless")
def test_some_pictures_are_blurred():
    checks = ((torch.arange(72) // 2)[:, None] + torch.arange(72) // 2) % 2 * 2.0 - 1
    found = degraded(checks.expand(300, 3, 72, 72), 64, seeded())
    soft = found.flatten(1).std(dim=1) < 0.35
    assert abs(soft.float().mean() - degrade.BLURRED) < 0.1
