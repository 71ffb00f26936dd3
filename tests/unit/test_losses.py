"""The losses: known values and gradients, exact projections, and what must not matter."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.diffusion import losses
from pipelines.diffusion.losses import (
    Brightness,
    Contrast,
    EmbeddingDistance,
    MeanColor,
    Palette,
    Symmetry,
    TargetColor,
    Term,
)
from pipelines.diffusion.losses.palette import _apportioned

COLOR = torch.tensor([0.5, -0.2, 0.1])
COLORS = torch.tensor([[0.9, -0.8, -0.7], [-0.6, 0.1, 0.8], [0.1, 0.7, -0.5]])
SHARES = torch.tensor([0.5, 0.25, 0.25])
LEFT = losses.region_mask("left", 8, 8)
SOFT = torch.linspace(0.1, 1, 8).expand(8, 8)

LOSSES: dict[str, losses.Loss] = {
    "target colour": TargetColor(COLOR),
    "mean colour": MeanColor(COLOR),
    "mean colour of a half": MeanColor(COLOR, LEFT),
    "mean colour, soft mask": MeanColor(COLOR, SOFT),
    "palette": Palette(COLORS, SHARES),
    "palette of a half": Palette(COLORS, SHARES, LEFT),
    "brightness": Brightness(0.3),
    "contrast": Contrast(0.7),
    "symmetry": Symmetry("left-right"),
    "symmetry, upside down": Symmetry("top-bottom"),
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def pictures(count: int = 3, size: int = 8, seed: int = 0, dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, size, size, generator=generator, dtype=dtype) * 2 - 1


def upscaled(small: Tensor, size: int) -> Tensor:
    return F.interpolate(small, (size, size), mode="nearest")


@each_loss
def test_every_picture_has_its_own_loss_whatever_its_batch(loss: losses.Loss):
    x0 = pictures(4)
    together = loss(x0)
    assert together.shape == (4,)
    assert (together > 0).all()
    for i in range(4):
        torch.testing.assert_close(loss(x0[i : i + 1])[0], together[i])


@each_loss
def test_the_gradient_is_that_of_finite_differences(loss: losses.Loss):
    x0 = pictures(2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(loss, (x0,), fast_mode=True)


@pytest.mark.parametrize(
    "loss",
    [
        TargetColor(COLOR),
        MeanColor(COLOR),
        Palette(COLORS, SHARES),
        Brightness(0.3),
        Contrast(0.7),
        Symmetry(),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_the_size_of_a_picture_does_not_matter(loss: losses.Loss):
    small = pictures(size=4)
    values = [loss(upscaled(small, size)) for size in (28, 64, 128)]
    for value in values[1:]:
        torch.testing.assert_close(value, values[0], rtol=1e-4, atol=1e-6)


def test_the_size_of_a_region_does_not_matter():
    small = pictures(size=4)
    values = [
        MeanColor(COLOR, losses.region_mask("centre", size, size))(upscaled(small, size))
        for size in (28, 64, 256)
    ]
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(values[2], values[0])


def test_losses_have_the_values_that_they_promise():
    flat = COLOR[None, :, None, None].expand(1, 3, 8, 8)
    for loss in (TargetColor(COLOR), MeanColor(COLOR), MeanColor(COLOR, LEFT)):
        torch.testing.assert_close(loss(flat), torch.zeros(1))
        assert loss(flat + 0.1).item() > 0
    torch.testing.assert_close(TargetColor(COLOR)(flat + 0.1), torch.tensor([0.1]))
    torch.testing.assert_close(MeanColor(COLOR)(flat + 0.1), torch.tensor([0.01]))
    grey = torch.full((1, 3, 8, 8), 0.4)
    torch.testing.assert_close(Brightness(0.1)(grey), torch.tensor([0.09]))
    checks = torch.ones(1, 3, 8, 8)
    checks[..., ::2] = -1
    torch.testing.assert_close(Contrast(0.25)(checks), torch.tensor([0.5625]))
    torch.testing.assert_close(Symmetry("left-right")(checks), torch.tensor([1.0]))
    torch.testing.assert_close(Symmetry("top-bottom")(checks), torch.zeros(1))


def test_luma_is_what_pillow_calls_grey():
    torch.testing.assert_close(
        losses.luma(pictures()), (pictures() * torch.tensor(losses.LUMINANCE).view(3, 1, 1)).sum(1)
    )
    assert sum(losses.LUMINANCE) == pytest.approx(1)
    grey = torch.rand(2, 1, 4, 4)
    assert torch.equal(losses.luma(grey), grey[:, 0])


MASKS = {
    "all": None,
    "left": LEFT,
    "soft": SOFT,
    "soft edge": torch.tensor([0.0, 0.0, 0.02, 0.3, 0.8, 1.0, 1.0, 1.0]).expand(8, 8),
}


@pytest.mark.parametrize("target", [0.0, 0.9, -0.97], ids=lambda target: f"to {target}")
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_the_projection_reaches_the_mean_colour_inside_the_box_in_the_shortest_way(
    mask: Tensor | None, target: float
):
    loss = MeanColor(torch.full((3,), target), mask)
    x0 = 1.3 * pictures()
    found = loss.project(x0)
    torch.testing.assert_close(loss.mean(found), loss.color.expand(3, 3), atol=1e-5, rtol=0)
    counted = torch.ones(8, 8) if mask is None else mask
    touched = (counted > 0).expand_as(x0)
    assert (found[touched].abs() <= 1 + 1e-6).all()
    assert torch.equal(found[~touched], x0[~touched])
    # Karush-Kuhn-Tucker, necessary and sufficient here: inside the box, pixels have moved by one
    # multiple of the mask; at its edges they would have moved at least (or at most) so far.
    for i in range(3):
        for c in range(3):
            moved = (found - x0)[i, c] / counted.clamp(min=1e-9)
            here = counted > 0
            inside = here & (found[i, c].abs() < 1 - 1e-6)
            shift = moved[inside].median() if inside.any() else None
            if shift is None:
                continue
            tolerance = 1e-4 / float(counted[inside].min())
            torch.testing.assert_close(
                moved[inside], shift.expand_as(moved[inside]), atol=tolerance, rtol=0
            )
            assert (moved[here & (found[i, c] >= 1 - 1e-6)] <= shift + tolerance).all()
            assert (moved[here & (found[i, c] <= -1 + 1e-6)] >= shift - tolerance).all()


def test_the_projection_is_the_answer_of_a_general_solver():
    loss = MeanColor(torch.tensor([0.8, -0.9, 0.3]), SOFT)
    x0 = 1.3 * pictures(1, dtype=torch.float64)
    weights = (SOFT / SOFT.sum()).double()
    # Dykstra's alternating projections onto box and plane, which converge to the nearest point.
    point, from_box, from_plane = x0.clone(), torch.zeros_like(x0), torch.zeros_like(x0)
    for _ in range(500):
        boxed = (point + from_box).clamp(-1, 1)
        from_box = point + from_box - boxed
        missing = loss.color.double() - ((boxed + from_plane) * weights).sum(dim=(2, 3))
        point = boxed + from_plane + (missing / weights.square().sum())[..., None, None] * weights
        from_plane = boxed + from_plane - point
    torch.testing.assert_close(loss.project(x0), point, atol=1e-4, rtol=0)


def test_without_a_box_a_projection_moves_every_pixel_alike():
    loss = MeanColor(COLOR, box=None)
    x0 = pictures()
    moved = loss.project(x0) - x0
    torch.testing.assert_close(moved, moved[:, :, :1, :1].expand_as(moved), atol=1e-6, rtol=0)
    torch.testing.assert_close(loss(loss.project(x0)), torch.zeros(3))
    half = MeanColor(COLOR, LEFT, box=None)
    torch.testing.assert_close(half(half.project(x0)), torch.zeros(3))
    assert torch.equal(half.project(x0)[..., 4:], x0[..., 4:])


def test_a_colour_at_the_edge_of_the_box_is_reached_and_one_beyond_as_nearly_as_can_be():
    white = MeanColor(torch.ones(3), SOFT)
    torch.testing.assert_close(white.project(pictures()), torch.ones(3, 3, 8, 8), atol=1e-4, rtol=0)
    beyond = MeanColor(torch.full((3,), 1.5))
    torch.testing.assert_close(beyond.project(pictures()), torch.ones(3, 3, 8, 8))


def test_what_is_projected_already_stays():
    for loss in (MeanColor(COLOR), MeanColor(COLOR, SOFT), Symmetry()):
        once = loss.project(pictures())
        torch.testing.assert_close(loss.project(once), once, atol=1e-5, rtol=0)


@pytest.mark.parametrize("axis", ["left-right", "top-bottom"])
def test_the_nearest_symmetric_picture_is_the_mean_of_both_sides(axis: str):
    loss, x0 = Symmetry(axis), pictures()
    found = loss.project(x0)
    torch.testing.assert_close(found, found.flip(-1 if axis == "left-right" else -2))
    torch.testing.assert_close(loss(found), torch.zeros(3))
    # Nearest: the loss is the squared distance to it, and what was moved is antisymmetric.
    torch.testing.assert_close(loss(x0), (x0 - found).square().mean(dim=(1, 2, 3)))


def palette_picture(counts: tuple[int, ...], seed: int = 0) -> Tensor:
    """An 8x8 picture with so many pixels of each colour of the palette, anywhere."""
    pixels = COLORS.repeat_interleave(torch.tensor(counts), dim=0)  # (64, 3)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(seed))
    return pixels[order].T.reshape(1, 3, 8, 8)


def test_a_palette_is_matched_by_its_colours_in_their_shares_wherever_they_are():
    loss = Palette(COLORS, SHARES)
    for seed in range(3):
        torch.testing.assert_close(loss(palette_picture((32, 16, 16), seed)), torch.zeros(1))
    other = palette_picture((16, 32, 16))
    assert loss(other).item() > 0.05
    same_colors = Palette(COLORS, torch.tensor([0.25, 0.5, 0.25]))
    torch.testing.assert_close(same_colors(other), torch.zeros(1))
    exact = palette_picture((32, 16, 16))
    nudged = exact + 0.05 * pictures(1, seed=4)
    assert 0 < loss(nudged).item() < 0.01


def test_following_the_gradient_of_a_palette_leads_to_its_colours_in_their_shares():
    loss, x0 = Palette(COLORS, SHARES), pictures(1)
    for _ in range(40):
        x0 = x0.detach().requires_grad_()
        gradient = torch.autograd.grad(loss(x0).sum(), x0)[0]
        x0 = x0 - 1.5 * 64 * gradient  # the inverse of the curvature
    nearest = torch.cdist(x0.detach().flatten(2)[0].T, COLORS)  # (64, 3)
    assert nearest.amin(dim=1).max() < 0.05
    assert nearest.argmin(dim=1).bincount(minlength=3).tolist() == [32, 16, 16]


def test_a_palette_of_one_colour_is_a_flat_field():
    loss = Palette(COLORS[:1], torch.ones(1))
    flat = COLORS[0][None, :, None, None].expand(1, 3, 8, 8)
    torch.testing.assert_close(loss(flat), torch.zeros(1))


def test_a_palette_of_a_region_looks_at_no_other_pixel():
    loss = Palette(COLORS, SHARES, LEFT)
    x0 = pictures(1).requires_grad_()
    gradient = torch.autograd.grad(loss(x0).sum(), x0)[0]
    assert (gradient[..., :4] != 0).all()
    assert (gradient[..., 4:] == 0).all()


def test_shares_become_whole_pixels_that_add_up():
    third = torch.full((3,), 1 / 3)
    for count in (1, 2, 7, 64):
        counts = _apportioned(third, count)
        assert int(counts.sum()) == count
        assert int(counts.max() - counts.min()) <= 1
    assert _apportioned(torch.tensor([0.7, 0.2, 0.1]), 10).tolist() == [7, 2, 1]


def test_a_flat_picture_has_no_contrast_and_a_finite_gradient():
    x0 = torch.full((1, 3, 8, 8), 0.2).requires_grad_()
    value = Contrast(0.5)(x0)
    assert value.item() == pytest.approx(0.25, abs=1e-3)
    assert torch.autograd.grad(value.sum(), x0)[0].isfinite().all()


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9)])
def test_regions_are_where_their_names_say(height: int, width: int):
    assert losses.region_mask("all", height, width) is None
    masks = {name: losses.region_mask(name, height, width) for name in losses.REGIONS[1:]}
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    where = {"top": -rows, "bottom": rows, "left": -columns, "right": columns}
    for name, side in where.items():
        mask = masks[name]
        assert mask is not None
        assert side[mask == 1].min() > side[mask == 0].max() or height % 2 or width % 2
        assert 0 < mask.sum() <= height * width / 2
    top, bottom, centre = masks["top"], masks["bottom"], masks["centre"]
    assert top is not None
    assert bottom is not None
    assert centre is not None
    assert torch.equal(top.flip(0), bottom)
    assert torch.equal(centre, centre.flip(0).flip(1))
    assert centre[height // 2, width // 2] == 1
    assert centre[0].sum() == 0
    with pytest.raises(ValueError, match=r"region must be one of all, top.*, got 'middle'"):
        losses.region_mask("middle", height, width)


def test_a_mask_of_another_size_covers_the_same_part():
    mask = torch.zeros(64, 64)
    mask[:, :32] = 1
    for size in (8, 16, 64, 128):
        left = losses.region_mask("left", size, size)
        assert left is not None
        assert torch.equal(losses.resized_mask(mask, size, size), left)
    fine = torch.eye(8)
    assert losses.resized_mask(fine, 4, 4).mean() == fine.mean()


def test_several_losses_add_up_with_their_weights():
    x0 = pictures()
    terms = [Term(Brightness(0.3), 0.5), Term(Contrast(0.7))]
    expected = 0.5 * Brightness(0.3)(x0) + Contrast(0.7)(x0)
    torch.testing.assert_close(losses.total(terms)(x0), expected)


# --- embeddings ----------------------------------------------------------------------------------

RIGHT, UP = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])


def at_angle(angle: float) -> Tensor:
    """A vector of length 1 that is turned by so much from `RIGHT` towards `UP`."""
    return math.cos(angle) * RIGHT.double() + math.sin(angle) * UP.double()


def look_at_means(x0: Tensor) -> Tensor:
    """The mean colours as embeddings: `(1, b, 3)`."""
    return F.normalize(x0.mean(dim=(2, 3)), dim=-1)[None]


def flat(*colors: Tensor) -> Tensor:
    """One small picture of each colour."""
    return torch.stack(colors)[:, :, None, None].expand(-1, -1, 4, 4).float()


def distance_to(*targets: Tensor, weights: tuple[float, ...] = (1.0,)) -> EmbeddingDistance:
    return EmbeddingDistance(look_at_means, torch.stack(targets).float(), torch.tensor(weights))


@pytest.mark.parametrize("angle", [1e-3, 0.1, math.pi / 6, math.pi / 2, 2.0, 3.0, 3.13])
def test_the_great_circle_is_half_the_squared_angle(angle: float):
    found = losses.great_circle(RIGHT.double(), at_angle(angle))
    assert found.item() == pytest.approx(angle**2 / 2, rel=1e-4)
    turned = losses.great_circle(at_angle(0.4 + angle), at_angle(0.4))
    assert turned.item() == pytest.approx(angle**2 / 2, rel=1e-4)


def test_the_great_circle_is_zero_for_the_same_and_the_most_for_the_opposite():
    assert losses.great_circle(RIGHT, RIGHT).item() == pytest.approx(0, abs=1e-9)
    assert losses.great_circle(RIGHT, -RIGHT).item() == pytest.approx(math.pi**2 / 2, rel=0.01)
    many = losses.great_circle(torch.stack([RIGHT, UP])[:, None], torch.stack([RIGHT, UP, -UP]))
    quarter = math.pi**2 / 8
    expected = torch.tensor([[0, quarter, quarter], [quarter, 0, 4 * quarter]])
    torch.testing.assert_close(many, expected, rtol=0.01, atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-4, math.pi - 1e-4, math.pi])
def test_the_gradient_of_the_great_circle_is_finite_at_its_ends(angle: float):
    vector = at_angle(angle).float().requires_grad_()
    gradient = torch.autograd.grad(losses.great_circle(vector, RIGHT), vector)[0]
    assert gradient.isfinite().all()
    assert gradient.norm() < 10


def test_the_gradient_of_the_great_circle_is_the_angle():
    for angle in (1e-3, 0.5, 1.5, 3.0):
        turn = torch.tensor(angle, dtype=torch.float64, requires_grad=True)
        vector = torch.stack([turn.cos(), turn.sin(), turn * 0])
        gradient = torch.autograd.grad(losses.great_circle(vector, RIGHT.double()), turn)[0]
        assert gradient.item() == pytest.approx(angle, rel=1e-4)


def test_a_distance_of_embeddings_is_the_weighted_mean_over_targets():
    x0 = flat(RIGHT, UP, at_angle(1.0))
    quarter = math.pi**2 / 8
    alone = distance_to(RIGHT)(x0)
    torch.testing.assert_close(alone, torch.tensor([0, quarter, 0.5]), rtol=1e-4, atol=1e-6)
    both = distance_to(RIGHT, UP, weights=(1.0, 3.0))(x0)
    turned = (0.5 + 3 * (math.pi / 2 - 1) ** 2 / 2) / 4
    expected = torch.tensor([quarter * 3 / 4, quarter / 4, turned])
    torch.testing.assert_close(both, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, -0.25), (-2.0, -3.0)])
def test_weights_of_embeddings_matter_only_beside_each_other(weights: tuple[float, float]):
    x0 = pictures(3)
    twice = (2 * weights[0], 2 * weights[1])
    torch.testing.assert_close(
        distance_to(RIGHT, UP, weights=twice)(x0), distance_to(RIGHT, UP, weights=weights)(x0)
    )
    more = (2 * weights[0], weights[1])
    assert not torch.allclose(
        distance_to(RIGHT, UP, weights=more)(x0), distance_to(RIGHT, UP, weights=weights)(x0)
    )


def test_a_negative_weight_pushes_away_and_the_loss_stays_0_or_more():
    away = distance_to(RIGHT, weights=(-0.7,))
    angles = (0.0, 0.5, 1.5, 2.5, math.pi)
    values = away(flat(*(at_angle(angle) for angle in angles)))
    assert (values >= 0).all()
    assert (values.diff() < 0).all()
    torch.testing.assert_close(values[0].item(), math.pi**2 / 2, rtol=1e-5, atol=0)
    assert values[-1].item() == pytest.approx(0, abs=0.02)
    x0 = flat(at_angle(1.0)).requires_grad_()
    gradients = [torch.autograd.grad(loss(x0).sum(), x0)[0] for loss in (away, distance_to(RIGHT))]
    torch.testing.assert_close(gradients[0], -gradients[1])


def test_the_distance_of_embeddings_is_the_mean_over_views_and_knows_no_batch():
    def look(x0: Tensor) -> Tensor:
        return torch.cat([look_at_means(x0), look_at_means(x0.flip(1))])

    targets, weights = torch.stack([RIGHT, UP]), torch.tensor([1.0, -0.5])
    x0 = pictures(4)
    together = EmbeddingDistance(look, targets, weights)(x0)
    assert together.shape == (4,)
    one_view = EmbeddingDistance(look_at_means, targets, weights)
    torch.testing.assert_close(together, (one_view(x0) + one_view(x0.flip(1))) / 2)
    for i in range(4):
        alone = EmbeddingDistance(look, targets, weights)(x0[i : i + 1])
        torch.testing.assert_close(alone[0], together[i])


@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_the_gradient_of_the_distance_of_embeddings_is_that_of_finite_differences(weight: float):
    targets = torch.stack([at_angle(0.3), at_angle(2.0)])
    weights = torch.tensor([weight, 0.5], dtype=torch.float64)
    loss = EmbeddingDistance(look_at_means, targets, weights)
    x0 = (pictures(2, size=4, dtype=torch.float64) * 0.2 + 0.3).requires_grad_()
    assert torch.autograd.gradcheck(loss, (x0,), fast_mode=True)


def redness(x0: Tensor) -> Tensor:
    return (x0[:, 0] - 1).square().mean(dim=(1, 2))


def test_a_plain_function_is_a_loss():
    x0 = torch.rand(3, 3, 4, 4)
    term = losses.Term(redness, 0.5)
    assert (term.loss.polyak, term.weight) == (1.0, 0.5)
    torch.testing.assert_close(term.loss(x0), redness(x0))
    assert losses.of(redness, polyak=2.0).polyak == 2.0


def test_what_is_a_loss_already_is_left_as_it_is():
    loss = losses.Symmetry()
    assert losses.of(loss) is loss
    assert losses.Term(loss).loss is loss


def test_a_plain_function_that_answers_for_the_whole_batch_is_refused():
    with pytest.raises(ValueError, match=r"one value per image, \(3,\), got \(\)"):
        losses.of(lambda x0: x0.mean())(torch.zeros(3, 3, 4, 4))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x0: 1.0, r"tensor of shape \(3,\), got float"),
        (lambda x0: None, r"tensor of shape \(3,\), got NoneType"),
        (lambda x0: x0.mean(dim=(1, 2, 3)) * math.nan, "a number for every image, got nan"),
        (lambda x0: (x0 > 0).sum(dim=(1, 2, 3)), "differentiable"),
        (lambda x0: x0.detach().mean(dim=(1, 2, 3)), "differentiable"),
    ],
    ids=["a number", "nothing", "nan", "counts", "detached"],
)
def test_a_plain_function_that_guidance_cannot_follow_is_refused(function: Any, message: str):
    x0 = torch.zeros(3, 3, 4, 4, requires_grad=True)
    with pytest.raises(ValueError, match=message):
        losses.of(function)(x0)


def test_a_plain_function_may_change_its_argument_in_place():
    x0 = torch.full((2, 3, 4, 4), 3.0, requires_grad=True)
    values = losses.of(lambda x0: x0.clamp_(-1, 1).mean(dim=(1, 2, 3)))(x0)
    torch.testing.assert_close(values, torch.ones(2))
    torch.testing.assert_close(x0.detach(), torch.full((2, 3, 4, 4), 3.0))


@pytest.mark.parametrize("loss", [3, None, "symmetry", losses.Symmetry])
def test_what_is_no_function_of_pictures_is_no_loss(loss: Any):
    with pytest.raises(ValueError, match="loss must be a function of x0, got"):
        losses.of(loss)


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_is_refused(weight: float):
    with pytest.raises(ValueError, match="weight must be a finite number"):
        losses.Term(losses.Symmetry(), weight)
