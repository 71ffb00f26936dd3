"""What training scripts share: noise levels, targets, weights, schedule, and the saved state."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.diffusion.denoisers import predict_x0
from training.core.batches import batch_indices, epoch_order, slot_noise, step_generator
from training.core.learning_rate import learning_rate
from training.core.objective import loss_weights, stratified_timesteps, training_target
from training.core.state import STATE_FILE, load_state, save_state
from training.core.trainer import check_finite

ROOT = Path(__file__).resolve().parents[2]
PREDICTIONS = ("epsilon", "v_prediction", "sample")


def draws(count: int, batch_size: int) -> torch.Tensor:
    """Timesteps of many batches, `(count, batch_size)`."""
    generators = (step_generator(0, step) for step in range(count))
    return torch.stack([stratified_timesteps(batch_size, 1000, g) for g in generators])


def test_timesteps_are_uniform_over_many_batches():
    t = draws(count=5000, batch_size=8)
    counts = torch.histc(t.float(), bins=20, min=0, max=1000)  # (20,), 2000 each on average
    assert ((counts - 2000).abs() < 100).all()


def test_timesteps_of_every_place_in_the_batch_reach_both_ends():
    t = draws(count=20_000, batch_size=2)
    assert t.min(dim=0).values.tolist() == [0, 0]
    assert t.max(dim=0).values.tolist() == [999, 999]


def test_timesteps_of_one_batch_are_spread_evenly():
    t = draws(count=50, batch_size=10).sort(dim=1).values
    assert ((t.diff(dim=1) - 100).abs() <= 1).all()


def test_every_example_is_seen_once_an_epoch():
    for epoch in (0, 3):
        steps = range(epoch * 5, epoch * 5 + 5)
        seen = torch.cat([batch_indices(20, 4, seed=1, step=step) for step in steps])
        assert sorted(seen.tolist()) == list(range(20))


def test_an_incomplete_batch_is_dropped_and_not_always_the_same_one():
    left_out = set()
    for epoch in range(20):
        steps = range(epoch * 2, epoch * 2 + 2)
        seen = torch.cat([batch_indices(11, 5, seed=1, step=step) for step in steps])
        assert len(seen.unique()) == 10
        left_out |= set(range(11)) - set(seen.tolist())
    assert len(left_out) > 3


def test_epochs_and_seeds_have_orders_of_their_own():
    first = epoch_order(100, seed=1, epoch=0).tolist()
    assert epoch_order(100, seed=1, epoch=1).tolist() != first
    assert epoch_order(100, seed=2, epoch=0).tolist() != first


def test_a_step_asked_for_out_of_order_sees_the_same_examples():
    whole_run = [batch_indices(20, 4, seed=1, step=step).tolist() for step in range(12)]
    assert batch_indices(20, 4, seed=1, step=7).tolist() == whole_run[7]


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match=r"batch_size must be at most .* 3, got 4"):
        batch_indices(3, 4, seed=0, step=0)


def test_every_step_draws_its_own_noise_and_the_same_again():
    one, again, other = (step_generator(5, step) for step in (8, 8, 9))
    first = torch.randn(4, generator=one)
    torch.testing.assert_close(torch.randn(4, generator=again), first, rtol=0, atol=0)
    assert not torch.equal(torch.randn(4, generator=other), first)


def noise_of(seed: int, step: int, slots: list[int]) -> torch.Tensor:
    return slot_noise(seed, step, torch.tensor(slots), (3, 4, 4), torch.device("cpu"))


def test_a_picture_gets_the_same_noise_whichever_pass_it_falls_to():
    whole = noise_of(1, 5, [0, 1, 2, 3])
    torch.testing.assert_close(noise_of(1, 5, [2, 3]), whole[2:], rtol=0, atol=0)
    torch.testing.assert_close(noise_of(1, 5, [1]), whole[1:2], rtol=0, atol=0)


def test_noise_differs_between_pictures_steps_and_seeds():
    draws = [noise_of(1, 5, [0, 1]), noise_of(1, 6, [0, 1]), noise_of(2, 5, [0, 1])]
    assert len(torch.cat(draws).flatten(1).unique(dim=0)) == 6


def test_noise_is_standard_normal_up_to_the_largest_seed():
    noise = noise_of(2**32 - 1, 1_000_000, list(range(500)))
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(1, abs=0.02)


def test_what_is_not_finite_stops_a_run_unless_a_scaler_skips_the_step():
    check_finite(1.0, 2.0, step=1)
    check_finite(1.0, float("inf"), step=1, scaled=True)
    for loss, norm, scaled in ((1.0, float("inf"), False), (float("nan"), 1.0, True)):
        with pytest.raises(FloatingPointError, match="at step 7; start again with a lower lr"):
            check_finite(loss, norm, step=7, scaled=scaled)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_target_leads_back_to_the_picture(prediction: str):
    generator = torch.Generator().manual_seed(0)
    x0 = torch.rand(5, 1, 4, 4, generator=generator) * 2 - 1
    eps = torch.randn(x0.shape, generator=generator)
    alpha_bar = torch.tensor([0.99, 0.7, 0.5, 0.3, 0.05]).view(-1, 1, 1, 1)
    alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    target = training_target(x0, eps, alpha, sigma, prediction)
    found = predict_x0(target, alpha * x0 + sigma * eps, alpha, sigma, prediction)
    torch.testing.assert_close(found, x0, rtol=1e-4, atol=1e-5)


def test_an_unknown_prediction_is_refused():
    one = torch.ones(1)
    with pytest.raises(ValueError, match=r"prediction must be .* got 'x'"):
        training_target(one, one, one, one, "x")
    with pytest.raises(ValueError, match=r"prediction must be .* got 'x'"):
        loss_weights(one / 2, "x", 5.0)


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ("epsilon", [5 / 9, 1.0, 1.0]),
        ("v_prediction", [5 / 10, 1 / 2, 0.25 / 1.25]),
        ("sample", [5.0, 1.0, 0.25]),
    ],
)
def test_min_snr_weights_are_those_of_the_paper(prediction: str, expected: list[float]):
    alpha_bar = torch.tensor([0.9, 0.5, 0.2])  # SNR 9, 1 and 0.25
    found = loss_weights(alpha_bar, prediction, 5.0)
    torch.testing.assert_close(found, torch.tensor(expected))


def test_a_clamp_of_zero_switches_the_weights_off():
    found = loss_weights(torch.tensor([0.9, 0.1]), "epsilon", 0.0)
    torch.testing.assert_close(found, torch.ones(2))


def test_the_learning_rate_rises_to_its_peak_and_falls_to_a_hundredth():
    def rate(step: int, warmup_steps: int = 10) -> float:
        return learning_rate(step, peak=2.0, warmup_steps=warmup_steps, max_steps=110)

    assert rate(0) == pytest.approx(0.2)
    assert rate(9) == rate(10) == pytest.approx(2.0)
    assert rate(60) == pytest.approx(2.0 * 0.505)
    assert rate(110) == rate(500) == pytest.approx(0.02)
    assert rate(0, warmup_steps=0) == pytest.approx(2.0)
    assert all(rate(step) > rate(step + 1) for step in range(10, 110))


def test_the_state_comes_back_as_it_was_saved(tmp_path: Path):
    assert load_state(tmp_path) is None
    save_state(tmp_path / "new", {"step": 3, "weights": torch.arange(4.0)})
    state = load_state(tmp_path / "new")
    assert state is not None
    assert state["step"] == 3
    torch.testing.assert_close(state["weights"], torch.arange(4.0))


@contextmanager
def little_room() -> Iterator[None]:
    """No file may grow beyond a kilobyte, as if the disk were full; nor may the test's own log."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_keeps_the_old_state_and_leaves_nothing_behind(tmp_path: Path):
    save_state(tmp_path, {"step": 1})
    with little_room(), pytest.raises(OSError, match="File too large"):
        save_state(tmp_path, {"step": 2, "weights": torch.zeros(10_000)})
    assert load_state(tmp_path) == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


def test_a_failure_while_the_state_is_packed_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise RuntimeError("packing failed")

    save_state(tmp_path, {"step": 1})
    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="packing failed"):
        save_state(tmp_path, {"step": 2})
    assert load_state(tmp_path) == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


SAVES_FOREVER = """
import itertools, sys
from pathlib import Path
import torch
from training.core.state import save_state

for step in itertools.count():
    save_state(Path(sys.argv[1]), {"step": step, "weights": torch.full((500_000,), step)})
"""


@pytest.mark.thorough
def test_a_process_killed_while_saving_leaves_a_whole_state(tmp_path: Path):
    for attempt in range(2):
        command = [sys.executable, "-c", SAVES_FOREVER, str(tmp_path)]
        with subprocess.Popen(command, cwd=ROOT) as process:
            _wait_for(tmp_path / STATE_FILE, newer_than=time.time())
            time.sleep(0.013 * (attempt + 1))  # somewhere within a save
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        state = load_state(tmp_path)
        assert state is not None
        assert (state["weights"] == state["step"]).all()


KILLS_ITSELF_HALF_WAY = """
import os, signal, sys
from pathlib import Path
from training.core.state import save_state

def die(descriptor):
    os.ftruncate(descriptor, 100)
    os.kill(os.getpid(), signal.SIGKILL)

save_state(Path(sys.argv[1]), {"step": 1})
os.fsync = die
save_state(Path(sys.argv[1]), {"step": 2})
"""


@pytest.mark.thorough
def test_a_process_killed_half_way_through_a_save_keeps_the_state_before(tmp_path: Path):
    command = [sys.executable, "-c", KILLS_ITSELF_HALF_WAY, str(tmp_path)]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
    assert load_state(tmp_path) == {"step": 1}


def _wait_for(path: Path, *, newer_than: float, seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not path.exists() or path.stat().st_mtime < newer_than:
        assert time.monotonic() < ends, f"{path} was not written within {seconds} s"
        time.sleep(0.01)


def test_what_a_killed_save_left_does_not_hinder_the_next(tmp_path: Path):
    (tmp_path / f"{STATE_FILE}.tmp").write_bytes(b"half a st")
    assert load_state(tmp_path) is None
    save_state(tmp_path, {"step": 1})
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


class Malicious:
    """Would create a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickled_code_in_a_state_is_refused_and_not_run(tmp_path: Path):
    torch.save({"step": Malicious(tmp_path / "ran")}, tmp_path / STATE_FILE)
    with pytest.raises(ValueError, match="must be a training state"):
        load_state(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kept_bytes", [0, 10, 300])
def test_a_truncated_state_is_refused_in_one_sentence(kept_bytes: int, tmp_path: Path):
    save_state(tmp_path, {"weights": torch.zeros(100)})
    path = tmp_path / STATE_FILE
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(ValueError, match="delete it to start again"):
        load_state(tmp_path)


@pytest.mark.parametrize("content", [b"torn", b"{}", b"\x80\x02", bytes(100)])
def test_what_is_no_state_is_refused_in_one_sentence(content: bytes, tmp_path: Path):
    (tmp_path / STATE_FILE).write_bytes(content)
    with pytest.raises(ValueError, match="delete it to start again"):
        load_state(tmp_path)
