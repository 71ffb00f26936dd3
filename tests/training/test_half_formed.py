"""Half-formed pictures: what a network predicts of them, made once and kept."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.models.unets.unet_2d import UNet2DOutput
from safetensors.torch import load_file
from torch import Tensor, nn

from training.clip import half_formed
from training.clip.half_formed import FILE, load_or_make, make

SCHEDULE: dict[str, Any] = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"}


def pictures(count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 72, 72), generator=generator, dtype=torch.uint8)


@pytest.mark.usefixtures("tiny_checkpoints")
@pytest.mark.thorough
def test_half_formed_pictures_have_the_shape_of_the_pictures_and_depend_on_the_seed_alone():
    first = make(pictures(), "paintings", seed=1)
    assert (first.shape, first.dtype) == ((3, 3, 72, 72), torch.uint8)
    torch.rand(5)  # the global generator does not matter
    assert torch.equal(first, make(pictures(), "paintings", seed=1))
    assert not torch.equal(first, make(pictures(), "paintings", seed=2))


@pytest.mark.usefixtures("tiny_checkpoints")
def test_pictures_are_made_in_parts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(half_formed, "_BATCH", 2)
    assert make(pictures(5), "paintings").shape == (5, 3, 72, 72)


class Knowing(nn.Module):
    """Answers the v of a grey picture of a known value, whatever the noise; notes the levels."""

    def __init__(self, x0: float):
        super().__init__()
        self.x0 = nn.Parameter(torch.tensor(x0))
        self.levels: list[Tensor] = []
        self.alpha_bar = DDPMScheduler(**SCHEDULE).alphas_cumprod

    def forward(self, x_t: Tensor, t: Tensor) -> UNet2DOutput:
        self.levels.append(t)
        alpha = self.alpha_bar[t].sqrt().view(-1, 1, 1, 1)
        sigma = (1 - alpha**2).sqrt()
        noise = (x_t - alpha * self.x0) / sigma
        return UNet2DOutput(sample=alpha * noise - sigma * self.x0)


def test_a_network_that_knows_the_picture_forms_it_whole_from_any_level(
    monkeypatch: pytest.MonkeyPatch,
):
    value = 200
    knowing = Knowing(value / 127.5 - 1)
    loaded = SimpleNamespace(
        unet=knowing, scheduler_config=SCHEDULE, checkpoint=SimpleNamespace(size_px=64)
    )
    monkeypatch.setattr(half_formed.checkpoints, "load", lambda _: loaded)
    made = make(torch.full((70, 3, 72, 72), value, dtype=torch.uint8), "paintings")
    assert (made.int() - value).abs().max() <= 1
    levels = torch.cat(knowing.levels)
    assert half_formed.LEAST_T <= levels.min() < 200
    assert 800 < levels.max() < half_formed.MOST_T


@pytest.mark.usefixtures("tiny_checkpoints")
def test_they_are_made_once_and_then_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = load_or_make(tmp_path, pictures(), "paintings", seed=1)
    assert torch.equal(made, make(pictures(), "paintings", seed=1))
    assert [path.name for path in tmp_path.iterdir()] == [f"paintings-1-{FILE}"]
    monkeypatch.setattr(half_formed, "make", lambda *_: pytest.fail("made again"))
    assert torch.equal(load_or_make(tmp_path, pictures(), "paintings", seed=1), made)


@pytest.mark.usefixtures("tiny_checkpoints")
def test_they_are_made_anew_for_another_number_of_pictures(tmp_path: Path):
    load_or_make(tmp_path, pictures(3), "paintings")
    made = load_or_make(tmp_path, pictures(4), "paintings")
    assert made.shape == (4, 3, 72, 72)
    assert torch.equal(load_file(tmp_path / f"paintings-0-{FILE}")["pixels"], made)


@pytest.mark.usefixtures("tiny_checkpoints")
def test_a_kill_while_they_are_written_leaves_no_half_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def killed(tensors: dict[str, Tensor], path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(half_formed, "save_file", killed)
        with pytest.raises(KeyboardInterrupt):
            load_or_make(tmp_path, pictures(), "paintings")
    assert load_or_make(tmp_path, pictures(), "paintings").shape == (3, 3, 72, 72)
