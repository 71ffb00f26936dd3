"""Learns the timesteps of few steps; the weights stay as they are.

As in LD3 (Tong et al. 2024, arXiv:2405.15506), timesteps move until few steps lead to the same
pictures as many do from the same noise. LD3 follows gradients back through all steps. Few numbers
need none: each is moved a little to see what it changes, and Gauss-Newton steps follow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from pipelines.diffusion import denoisers, sampling
from pipelines.diffusion.denoisers import CfgOutput, Predictor
from pipelines.diffusion.noise import draw_noise, image_generators
from pipelines.diffusion.schedules import alphas_cumprod, schedule_at
from pipelines.diffusion.solvers import SOLVERS
from pipelines.models.checkpoints import Loaded

TEACHER = "dpm++-3m"
STARTS = ("dpm++-logsnr", "dpm++", "dpm++-guided", TEACHER)
"""Solvers whose spacings are tried first; the best of them is improved."""

_SHARES = (1.0, 0.5, 0.25, 0.1)  # of a Gauss-Newton step, until one is better
_DAMPINGS = (1e-3, 0.1)
_MOST_OF_GAP = 0.45  # that a timestep may go towards its neighbour at once
_LONGEST_TRIAL = 8
_LEAST_GAIN = 0.002


@dataclass(frozen=True)
class Task:
    """Pictures that few steps shall lead to.

    Attributes:
        predict: the network.
        prediction_type: see `denoisers.predict_x0`.
        alpha_bar: `(num_timesteps,)`, falling.
        solver: key of `solvers.SOLVERS`, a multistep one that adds no noise.
        noise: `(b, c, h, w)`, where the pictures begin.
        pictures: `(b, c, h, w)` in [-1, 1], where many steps end.
    """

    predict: Predictor
    prediction_type: str
    alpha_bar: Tensor
    solver: str
    noise: Tensor
    pictures: Tensor

    def drawn(self, timesteps: Sequence[int], predict: Predictor | None = None) -> Tensor:
        """Returns the pictures at some timesteps, `(b, c, h, w)` in [-1, 1]."""
        schedule = schedule_at(
            [*timesteps],
            self.alpha_bar,
            solver=self.solver,
            device=self.noise.device,
            by_ratio=SOLVERS[self.solver].is_multistep,
        )
        *_, last = sampling.sample(
            predict or self.predict, self.noise, schedule, prediction_type=self.prediction_type
        )
        return last.x_prev.clamp(-1, 1)

    def error(self, timesteps: Sequence[int]) -> float:
        """Returns the mean squared difference to the pictures."""
        return float((self.drawn(timesteps) - self.pictures).square().mean())


def task_of(loaded: Loaded, solver: str, *, seed: int, num_images: int, teacher_steps: int) -> Task:
    """Draws the pictures that few steps shall lead to, with `TEACHER`.

    Args:
        loaded: the model.
        solver: key of `solvers.SOLVERS`.
        seed: of the first picture.
        num_images: number of pictures.
        teacher_steps: number of steps that are enough.
    """
    row, config = loaded.checkpoint, loaded.scheduler_config
    shape = (row.channels, row.size_px, row.size_px)
    noise = draw_noise(image_generators(seed, num_images), shape).to(loaded.device)
    alpha_bar, kind = alphas_cumprod(config), config["prediction_type"]
    predict = denoisers.denoiser(loaded.denoise)
    teacher = Task(predict, kind, alpha_bar, TEACHER, noise, noise)
    pictures = teacher.drawn(SOLVERS[TEACHER].spacing(alpha_bar, teacher_steps))
    return Task(predict, kind, alpha_bar, solver, noise, pictures)


def learn(task: Task, num_inference_steps: int, most_rounds: int = 12) -> list[int]:
    """Returns timesteps, strictly falling, that lead nearer to the pictures than all `STARTS`."""
    starts = (SOLVERS[name].spacing(task.alpha_bar, num_inference_steps) for name in STARTS)
    error, timesteps = min((task.error(start), start) for start in starts)
    rounds = tqdm(range(most_rounds), desc=f"{num_inference_steps} steps", unit="round")
    for _ in rounds:
        rounds.set_postfix_str(f"error {error:.5f}")
        better_error, better = _improved(task, timesteps, error)
        if better_error > error * (1 - _LEAST_GAIN):
            break
        error, timesteps = better_error, better
    return timesteps


def _improved(task: Task, timesteps: list[int], error: float) -> tuple[float, list[int]]:
    """Returns the best of some Gauss-Newton steps, or the timesteps as they are."""
    residual, jacobian = _linearised(task, timesteps)
    normal, gradient = jacobian.T @ jacobian, jacobian.T @ residual
    best = (error, timesteps)
    for share in _SHARES:
        for damping in _DAMPINGS:
            damped = normal + damping * torch.diag(normal.diag() + 1e-12)
            change = -share * torch.linalg.solve(damped, gradient)
            moved = _moved(timesteps, change.tolist())
            best = min(best, (task.error(moved), moved))
        if best[0] < error:
            break
    return best


def _linearised(task: Task, timesteps: list[int]) -> tuple[Tensor, Tensor]:
    """Returns the difference to the pictures `(m,)`, and its slopes by timesteps `(m, n - 1)`.

    The first timestep stays where it is.
    """
    predict = _Remembering(task.predict)  # pictures differ only from the moved timestep on
    base = task.drawn(timesteps, predict).flatten().double()
    slopes = []
    for i in range(1, len(timesteps)):
        trial = _trial(timesteps, i)
        moved = [*timesteps[:i], timesteps[i] + trial, *timesteps[i + 1 :]]
        change = task.drawn(moved, predict).flatten().double() - base if trial else 0 * base
        slopes.append(change / (trial or 1))
    return base - task.pictures.flatten().double(), torch.stack(slopes, dim=1)


def _trial(timesteps: list[int], i: int) -> int:
    """Returns how far a timestep is moved to see what changes; 0 where there is no room."""
    above, below = timesteps[i - 1] - timesteps[i], timesteps[i] - _after(timesteps, i)
    if above > 1:
        return max(1, min(_LONGEST_TRIAL, min(above, below) // 4))
    return -1 if below > 1 else 0


def _after(timesteps: Sequence[int], i: int) -> int:
    return timesteps[i + 1] if i + 1 < len(timesteps) else -1


def _moved(timesteps: list[int], change: Sequence[float]) -> list[int]:
    """Returns timesteps moved by less than half of the way to their neighbours, in order."""
    moved, count = [timesteps[0]], len(timesteps)
    for i, by in enumerate(change, start=1):
        up, down = timesteps[i - 1] - timesteps[i], timesteps[i] - _after(timesteps, i)
        t = timesteps[i] + max(-_MOST_OF_GAP * down, min(_MOST_OF_GAP * up, by))
        moved.append(min(moved[-1] - 1, max(count - 1 - i, round(t))))
    return moved


class _Remembering:
    """A network that computes the same input only once."""

    def __init__(self, predict: Callable[[Tensor, Tensor], Tensor | CfgOutput]) -> None:
        self._predict = predict
        self._known: dict[tuple[bytes, int], Tensor | CfgOutput] = {}

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor | CfgOutput:
        digest = hashlib.blake2b(x_t.cpu().numpy().tobytes(), digest_size=16).digest()
        key = (digest, int(t))
        if key not in self._known:
            self._known[key] = self._predict(x_t, t)
        return self._known[key]
