"""The course's own sampling of digits, as the baseline.

It is the loop of the notebook on class-conditioned diffusion, on the network of the checkpoint:
1,000 steps of diffusers' `DDPMScheduler` without guidance.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import DDPMScheduler
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor
from tqdm import tqdm

from benchmarks.scoring import cycled_labels
from pipelines.core import images
from pipelines.diffusion.noise import draw_noise, image_generators
from pipelines.models import checkpoints

DEFAULT_CACHE = Path("runs") / "bench"
_CHUNK = 50


def scheduler_of(loaded: checkpoints.Loaded) -> DDPMScheduler:
    """Returns a new `DDPMScheduler` from the checkpoint's configuration, with all timesteps."""
    scheduler = DDPMScheduler.from_config(loaded.scheduler_config)
    return scheduler  # pyright: ignore[reportReturnType]


def denoise(
    loaded: checkpoints.Loaded,
    x_t: Tensor,
    class_labels: Tensor,
    timesteps: Tensor,
    *,
    scheduler: DDPMScheduler,
    generators: Sequence[torch.Generator] | None = None,
    bar: tqdm | None = None,
) -> Tensor:
    """Denoises with the notebook's loop over `timesteps`.

    Args:
        loaded: network and schedule.
        x_t: `(b, 1, 28, 28)`, at the noise level of the first timestep, on the network's device.
        class_labels: `(b,)` whole numbers 0-9.
        timesteps: `(s,)` falling; a finished picture needs all of the scheduler's.
        scheduler: from `scheduler_of`.
        generators: of the fresh noise, one per image; None is PyTorch's global one, as in the
            notebook.
        bar: a progress bar to update per step; None is off.

    Returns:
        `(b, 1, 28, 28)`, about [-1, 1] after the last step.
    """
    step_generators = None if generators is None else list(generators)
    for t in timesteps:
        with torch.no_grad():
            output = loaded.unet(x_t, t, class_labels).sample
        x_t = scheduler.step(
            output,
            int(t),
            x_t,
            generator=step_generators,  # pyright: ignore[reportArgumentType]
            return_dict=False,
        )[0]
        if bar is not None:
            bar.update()
    return x_t


def as_pixels(pictures: Sequence[Image.Image]) -> Tensor:
    """Returns grey 8-bit pictures as `(b, 1, h, w)` uint8."""
    return torch.stack([pil_to_tensor(picture) for picture in pictures])


def _draw(loaded: checkpoints.Loaded, seed: int, first: int, last: int, bar: tqdm) -> Tensor:
    """Draws images `first` to `last - 1` as 8-bit pixels `(last - first, 1, 28, 28)`."""
    device = next(loaded.unet.parameters()).device
    generators = image_generators(seed + first, last - first)
    size_px = loaded.checkpoint.size_px
    noise = draw_noise(generators, (1, size_px, size_px)).to(device)
    labels = cycled_labels(last - first, first).to(device)
    scheduler = scheduler_of(loaded)
    result = denoise(
        loaded,
        noise,
        labels,
        scheduler.timesteps,
        scheduler=scheduler,
        generators=generators,
        bar=bar,
    )
    return as_pixels(images.to_pil(result))


def _stored(path: Path, count: int) -> Tensor | None:
    """Returns the pictures of an earlier run, or None if they are missing or unreadable."""
    try:
        pixels = load_file(path)["pixels"]
    except Exception:  # missing, truncated or another file: draw again
        return None
    return pixels if pixels.shape[0] == count and pixels.dtype == torch.uint8 else None


def _store(path: Path, pixels: Tensor) -> None:
    """Writes atomically: an interruption leaves a complete file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    save_file({"pixels": pixels}, temporary)
    os.replace(temporary, path)


def pictures(loaded: checkpoints.Loaded, *, count: int, seed: int, cache: Path) -> Tensor:
    """Returns `count` digits 0, 1, ... 9, 0, ... as 8-bit pixels `(count, 1, 28, 28)`.

    They are drawn in chunks and stored under `cache`, so that a run resumes where the last one
    stopped and a larger `count` reuses a smaller one. Image i depends only on `seed + i`.
    """
    folder = cache / f"{loaded.checkpoint.key}-{loaded.revision}-seed{seed}-course"
    steps = len(scheduler_of(loaded).timesteps)
    chunks = [(first, min(first + _CHUNK, count)) for first in range(0, count, _CHUNK)]
    parts = []
    name = f"course {loaded.checkpoint.key}"
    with tqdm(total=steps * len(chunks), unit="step", desc=name, mininterval=1) as bar:
        for first, last in chunks:
            path = folder / f"{first:06d}-{last:06d}.safetensors"
            part = _stored(path, last - first)
            if part is None:
                part = _draw(loaded, seed, first, last, bar)
                _store(path, part)
            else:
                bar.update(steps)
            parts.append(part)
    return torch.cat(parts)
