"""Compares arithmetic and memory layouts of a network on this device.

    python -m benchmarks.precision
    python -m benchmarks.precision --size 256 --num-images 4

For `paintings`, or for a network of the size of `google/ddpm-*` with random weights (`--size 256`),
it prints the time of one evaluation in fp32, bf16 and, on a graphics card, fp16, each with and
without `channels_last`, the difference of the outputs to fp32, and the memory of the card.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

from pipelines.core import devices
from pipelines.models import checkpoints

HEADER = ("arithmetic", "layout", "one evaluation", "of fp32", "largest difference", "memory")
_ROUNDS = 7
_T = 500
_PUBLIC_256: dict[str, Any] = {
    "sample_size": 256,
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 2,
    "block_out_channels": (128, 128, 256, 256, 512, 512),
    "down_block_types": (*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4),
    "attention_head_dim": None,
}
"""Configuration of the models that DDPM (Ho et al. 2020, arXiv:2006.11239) trained at 256 px."""


def network(size: int) -> nn.Module:
    """Returns `paintings` for 64 px; for 256 px, a larger network with random weights."""
    if size == 64:
        return checkpoints.load("paintings").unet
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(**_PUBLIC_256).eval().requires_grad_(False)
    return nn.Module.to(unet, devices.device())


def variants(device: torch.device) -> Iterator[tuple[str, bool]]:
    """Yields the arithmetic, and whether the layout is `channels_last`."""
    for name in ("fp32", "bf16", *(("fp16",) if device.type == "cuda" else ())):
        yield name, False
        yield name, True


def evaluate(unet: nn.Module, x_t: Tensor, name: str) -> Tensor:
    """Returns the network's output, `(b, c, h, w)` float32."""
    dtype = devices.PRECISIONS[name]
    context = torch.autocast(x_t.device.type, dtype=dtype) if dtype else nullcontext()
    with torch.no_grad(), context:
        return unet(x_t, _T).sample.float()


def timed(unet: nn.Module, x_t: Tensor, name: str) -> float:
    """Returns the seconds of one evaluation."""
    _wait(x_t.device)
    began = time.perf_counter()
    evaluate(unet, x_t, name)
    _wait(x_t.device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory_mib(device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    return f"{torch.cuda.max_memory_allocated(device) / 2**20:.0f} MiB"


def measure(size: int, num_images: int) -> list[tuple[str, ...]]:
    """Returns the rows of the table; the variants take turns in every round."""
    device, unet = devices.device(), network(size)
    x_t = torch.randn(num_images, 3, size, size, generator=torch.Generator().manual_seed(0))
    x_t, all_variants = x_t.to(device), list(variants(device))
    layouts = {False: torch.contiguous_format, True: torch.channels_last}
    seconds: dict[tuple[str, bool], list[float]] = {variant: [] for variant in all_variants}
    outputs, memory = {}, {}
    for round_number in range(_ROUNDS + 1):
        for name, channels_last in all_variants:
            unet.to(memory_format=layouts[channels_last])  # pyright: ignore[reportCallIssue]
            inputs = x_t.contiguous(memory_format=layouts[channels_last])
            if round_number == 0:  # warm-up, also for outputs and memory
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(device)
                outputs[name, channels_last] = evaluate(unet, inputs, name)
                memory[name, channels_last] = _memory_mib(device)
            else:
                seconds[name, channels_last].append(timed(unet, inputs, name))
    base = ("fp32", False)
    ratios = {
        v: statistics.median(a / b for a, b in zip(seconds[v], seconds[base], strict=True))
        for v in all_variants
    }
    return [
        (
            name,
            "channels_last" if channels_last else "contiguous",
            f"{1000 * statistics.median(seconds[name, channels_last]):.1f} ms",
            f"{ratios[name, channels_last]:.2f}",
            f"{float((outputs[name, channels_last] - outputs[base]).abs().max()):.4f}",
            memory[name, channels_last],
        )
        for name, channels_last in all_variants
    ]


def main(
    size: Annotated[int, typer.Option(help="64 or 256 px")] = 64,
    num_images: Annotated[int, typer.Option(min=1, help="in one batch")] = 1,
) -> None:
    """Prints the table."""
    if size not in (64, 256):
        raise typer.BadParameter(f"size must be 64 or 256, got {size}")
    print("| " + " | ".join(HEADER) + " |")
    print("| " + " | ".join("---" for _ in HEADER) + " |")
    for row in measure(size, num_images):
        print("| " + " | ".join(row) + " |")
    print(f"\n{num_images} of {size} px on {devices.describe_device()}.")


if __name__ == "__main__":
    typer.run(main)
