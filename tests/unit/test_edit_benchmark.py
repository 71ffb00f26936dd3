"""The benchmark of filling: its masks, its measures, and methods at equal cost."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from benchmarks import edit, frechet
from benchmarks.edit import ARMS, MASKS, Arm
from pipelines.core import devices
from pipelines.diffusion.known import Known
from pipelines.diffusion.losses import Keep
from pipelines.diffusion.noise import seeded, spawn
from pipelines.diffusion.sampling import StepContext
from pipelines.diffusion.solvers import make_schedule
from pipelines.models import checkpoints
from tests.fakes.tiny_pictures import invoke

COSINE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "sample",
}


def pictures(count: int = 3, side: int = 32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, side, side, generator=generator) * 1.6 - 0.8


# --- masks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("size_px", [8, 64])
def test_a_mask_keeps_some_pixels_and_redraws_others(kind: str, size_px: int):
    mask = edit.mask_of(kind, size_px)
    assert mask.shape == (size_px, size_px)
    assert set(mask.unique().tolist()) == {0, 1}


def test_masks_are_what_their_names_say():
    block, half, border = (edit.mask_of(kind, 64) for kind in ("block", "half", "border"))
    assert block.mean() == 1 / 4
    assert block[16:48, 16:48].all()
    assert half.mean() == 1 / 2
    assert half[:, 32:].all()
    assert border.mean() == 1 - (6 / 8) ** 2
    assert not border[8:56, 8:56].any()


def test_a_random_mask_has_whole_squares_and_its_own_seed():
    mask = edit.mask_of("random", 64)
    squares = mask.view(16, 4, 16, 4)
    assert torch.equal(squares.amax(dim=(1, 3)), squares.amin(dim=(1, 3)))
    assert 0.35 < mask.mean() < 0.65
    assert torch.equal(mask, edit.mask_of("random", 64))
    assert not torch.equal(mask, edit.mask_of("random", 64, seed=1))


# --- measures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MASKS)
def test_a_picture_that_is_alike_everywhere_has_no_seam(kind: str):
    redrawn = edit.mask_of(kind, 64)
    ramp = torch.linspace(-1, 1, 64)
    slope = (ramp[:, None] + ramp).expand(2, 3, 64, 64) / 2
    assert edit.seam(slope, redrawn) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("kind", MASKS)
def test_a_step_at_the_edge_of_the_mask_is_a_seam(kind: str):
    redrawn, noisy = edit.mask_of(kind, 64), pictures(8, 64) / 4
    plain, stepped = edit.seam(noisy, redrawn), edit.seam(noisy + 0.5 * redrawn, redrawn)
    assert plain == pytest.approx(1, abs=0.05)
    assert stepped > 3 * plain


def test_a_seam_is_how_far_neighbours_differ_across_over_inside():
    redrawn = torch.tensor([[0.0, 1.0, 1.0, 1.0]]).expand(2, 4)
    row = torch.tensor([0.0, 0.6, 0.7, 0.9])
    assert edit.seam(row.expand(1, 3, 2, 4), redrawn) == pytest.approx(0.6 / (2 * (0.1 + 0.2) / 7))


def test_the_distance_is_the_root_mean_square_in_the_mask():
    real, redrawn = pictures(), edit.mask_of("block", 32)
    assert edit.distance(real, real, redrawn) == 0
    assert edit.distance(real + 0.2 * redrawn, real, redrawn) == pytest.approx(25.5)
    assert edit.distance(real + 0.2 * (1 - redrawn), real, redrawn) == pytest.approx(0, abs=1e-4)


# --- methods -------------------------------------------------------------------------------------


def test_methods_cost_about_as_much():
    costs = {name: arm.evaluations() for name, arm in ARMS.items()}
    assert costs == {"ours": 20, "DDNM": 20, "RePaint": 20, "DPS": 21}


@pytest.mark.parametrize("arm", [*ARMS.values(), edit.repaint(6, 3, 2)], ids=[*ARMS, "jumps"])
def test_the_cost_is_what_a_run_evaluates(arm: Arm):
    few = dataclasses.replace(arm, steps=6)
    forward = backward = 0

    def count(gradient: Tensor) -> None:
        nonlocal backward
        backward += 1

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        nonlocal forward
        forward += 1
        output = torch.tanh(x_t)
        if output.requires_grad:
            output.register_hook(count)
        return output

    edit.draw(predict, COSINE, few, pictures(2), edit.mask_of("half", 32), 0)
    assert few.evaluations() == forward + 2 * backward


@pytest.mark.parametrize("name", ["ours", "DDNM", "RePaint"])
def test_methods_that_project_keep_what_is_known(name: str):
    real, redrawn = pictures(2), edit.mask_of("block", 32)
    arm = dataclasses.replace(ARMS[name], steps=5)
    drawn = edit.draw(lambda x_t, t: torch.tanh(x_t), COSINE, arm, real, redrawn, 0)
    torch.testing.assert_close(drawn * (1 - redrawn), real * (1 - redrawn), atol=1e-5, rtol=0)
    assert edit.distance(drawn, real, redrawn) > 5


def test_repaint_lays_new_noise_on_known_pixels_alone():
    real, redrawn = pictures(2, 64), edit.mask_of("half", 64)
    schedule = make_schedule(COSINE, solver="ddim", num_inference_steps=10, device="cpu")
    guide = edit.repaint(10, 2, 1).guide(Keep(real, redrawn), (3, 4))
    x_t, x0 = torch.zeros_like(real), torch.full_like(real, 0.3)
    results = {}
    for index in (2, 9):
        correction = guide(StepContext(schedule, index, x_t, x0))
        assert correction is not None
        assert correction.after is not None
        results[index] = correction.after(torch.full_like(real, 0.7))
        again = correction.after(torch.full_like(real, 0.7))
        assert torch.equal(results[index][..., 32:], torch.full_like(real, 0.7)[..., 32:])
        alpha, sigma = schedule.alpha[index + 1], (1 - schedule.alpha[index + 1] ** 2).sqrt()
        noise = (results[index] - alpha * real)[..., :32]
        assert float(noise.std()) == pytest.approx(float(sigma), rel=0.03, abs=1e-6)
        assert float(noise.mean()) == pytest.approx(0, abs=0.03)
        assert torch.equal(results[index], again) is (index == 9)  # at the end there is none
    torch.testing.assert_close(results[9][..., :32], real[..., :32])


def test_noise_of_repaint_is_another_one_than_that_of_the_run_and_one_per_picture():
    real, redrawn = torch.zeros(2, 3, 16, 16), torch.zeros(16, 16)
    schedule = make_schedule(COSINE, solver="ddim", num_inference_steps=4, device="cpu")
    context = StepContext(schedule, 0, real, real)

    def laid(seeds: tuple[int, ...]) -> Tensor:
        correction = edit.repaint(4, 1, 1).guide(Keep(real[: len(seeds)], redrawn), seeds)(
            dataclasses.replace(context, x_t=real[: len(seeds)], x0=real[: len(seeds)])
        )
        assert correction is not None
        assert correction.after is not None
        return correction.after(real[: len(seeds)])

    both = laid((7, 8))
    assert torch.equal(both[1:], laid((8,)))
    assert not torch.equal(both[0], both[1])
    for generator in (seeded((7,))[0], spawn(seeded((7,))[0])):
        own = torch.randn(3, 16, 16, generator=generator).flatten()
        together = torch.corrcoef(torch.stack([own, both[0].flatten()]))
        assert abs(float(together[0, 1])) < 0.15


def test_ours_is_the_guide_of_the_product():
    fact = Keep(torch.zeros(3, 8, 8), torch.ones(8, 8))
    assert edit.ours(40).guide(fact, (0,)) == Known([fact], None, 1)


# --- runs ----------------------------------------------------------------------------------------


@pytest.fixture
def tiny(tiny_checkpoints: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps of tiny networks on pictures of noise, judged by their mean colours."""
    monkeypatch.setattr(edit, "held_out", lambda name: pictures(16, 64))
    monkeypatch.setattr(edit, "looks", lambda x: frechet.fit(x.mean(dim=(2, 3)).double().numpy()))
    few = {name: dataclasses.replace(arm, steps=2) for name, arm in ARMS.items()}
    monkeypatch.setattr(edit, "ARMS", few)
    monkeypatch.setattr(devices, "describe_device", lambda device: "a machine")


@pytest.mark.usefixtures("tiny")
def test_pictures_are_filled_in_parts_as_they_are_all_at_once(monkeypatch: pytest.MonkeyPatch):
    loaded, real = checkpoints.load("paintings"), pictures(3, 64)
    redrawn = edit.mask_of("block", 64)
    whole = edit.filled(loaded, edit.ARMS["ours"], real, redrawn, 5)
    monkeypatch.setattr(edit, "_AT_ONCE", 1)
    parts = edit.filled(loaded, edit.ARMS["ours"], real, redrawn, 5)
    torch.testing.assert_close(whole, parts, atol=1 / 255, rtol=0)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_a_run_prints_a_row_for_each_mask_and_method():
    done = invoke(edit.main, "--pictures=8")
    assert done.exit_code == 0, done.output
    rows = [line.split(" | ") for line in done.output.splitlines() if line.startswith("| ")]
    assert [(row[0].strip("| "), row[1]) for row in rows[1:]] == [
        (kind, name) for kind in MASKS for name in ARMS
    ]
    for row in rows[1:]:
        assert all(float(cell.strip(" |")) >= 0 for cell in row[3].split(" / "))
    assert "paintings / scenes; 8 held-out pictures each." in done.output
    assert "Measured on a machine, PyTorch" in done.output
