from __future__ import annotations

import colorsys

import torch

from pipelines.core import images
from training.core.backgrounds import composited, draw_backgrounds, hue_rotated


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_grounds_are_colours_of_every_hue():
    rgb = images.to_uint8(draw_backgrounds(2000, generator())).flatten(1).float()
    assert rgb.shape == (2000, 3)
    strongest = rgb.argmax(dim=1)
    coloured = rgb.amax(dim=1) - rgb.amin(dim=1) > 20
    shares = torch.bincount(strongest[coloured], minlength=3) / coloured.sum()
    assert ((shares > 0.25) & (shares < 0.42)).all()  # red, green and blue lead equally often


def test_one_ground_in_four_has_no_colour():
    grounds = draw_backgrounds(2000, generator())
    grey = (grounds.amax(dim=1) - grounds.amin(dim=1)).flatten() < 1e-6
    assert 0.2 < grey.float().mean() < 0.3
    assert (grounds[grey] > 0).all()  # none is dark
    assert grounds.abs().max() <= 1


def test_the_same_generator_draws_the_same_grounds():
    assert torch.equal(draw_backgrounds(8, generator(3)), draw_backgrounds(8, generator(3)))
    assert not torch.equal(draw_backgrounds(8, generator(3)), draw_backgrounds(8, generator(4)))


def test_what_is_transparent_takes_the_colour_of_the_ground():
    pixels = torch.zeros(1, 4, 2, 3, dtype=torch.uint8)
    pixels[:, 0] = 255  # red
    pixels[..., 0, :] = torch.tensor([255, 0, 0, 255], dtype=torch.uint8).view(1, 4, 1)
    blue = torch.tensor([-1.0, -1.0, 1.0]).view(1, 3, 1, 1)
    laid = composited(pixels, blue)
    assert laid.shape == (1, 3, 2, 3)
    assert torch.allclose(laid[0, :, 0, 0], torch.tensor([1.0, -1.0, -1.0]))
    assert torch.allclose(laid[0, :, 1, 0], torch.tensor([-1.0, -1.0, 1.0]))


def test_half_transparent_pixels_are_mixed():
    pixels = torch.full((1, 4, 1, 1), 255, dtype=torch.uint8)
    pixels[:, 3] = 51  # a fifth
    assert torch.allclose(composited(pixels, torch.full((1, 3, 1, 1), -1.0)), torch.tensor(-0.6))


def test_hues_are_turned_as_on_the_circle_of_hsv_and_greys_and_transparency_stay():
    random = torch.randint(0, 256, (6, 4, 5, 5), generator=generator(), dtype=torch.uint8)
    random[0, :3] = random[0, :1]  # grey
    turns = torch.tensor([0.5, 0.0, 1 / 3, 2 / 3, 1.0, 0.17])
    after = hue_rotated(random, turns)
    assert torch.equal(after[:2], random[:2])
    assert torch.equal(after[4], random[4])
    assert torch.equal(after[:, 3], random[:, 3])
    red, green, blue = random[2, :3]  # a third of a round: red where green was
    assert torch.equal(after[2, :3], torch.stack([blue, red, green]))
    for before, now, turn in zip(random, after, turns.tolist(), strict=True):
        was, found = (
            colorsys.rgb_to_hsv(*(p[:3, 2, 2].float() / 255).tolist()) for p in (before, now)
        )
        wanted = colorsys.hsv_to_rgb((was[0] + turn) % 1, was[1], was[2])
        torch.testing.assert_close(colorsys.hsv_to_rgb(*found), wanted, atol=0.003, rtol=0)
