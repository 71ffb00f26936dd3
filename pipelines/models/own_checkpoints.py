"""The user's own models, as their configs describe them: where they lie, and whether they fit.

A model is a folder or a repository on the Hub, in the layout of diffusers with `unet/` and
`scheduler/`, or the older one with both configs at the root. Nothing here reads weights.
"""

from __future__ import annotations

import json
import os.path  # unlike pathlib's, its questions never raise
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from pipelines.core.errors import CheckpointError
from pipelines.core.rules import show
from pipelines.diffusion.schedules import MAX_STEPS
from pipelines.models import hub

WANTED_FILES = ["*.json", "*.safetensors", "*.bin"]
NETWORKS = ("UNet2DModel", "SpaceToDepthUNet2DModel")
PREDICTIONS = ("epsilon", "v_prediction", "sample")
MIN_SIZE_PX, MAX_SIZE_PX = 16, 512

_WEIGHTS = "diffusion_pytorch_model"


@dataclass(frozen=True)
class Own:
    """A model of the user's that can be drawn with, if its weights are what they should be.

    Attributes:
        unet_folder: of the network's config and weights.
        class_name: of the network, one of `NETWORKS`.
        weights: pattern of the files of its weights in that folder.
        safetensors: whether they are that; else pickles.
        size_px: side of its pictures.
        scheduler_config: with a prediction type, one of `PREDICTIONS`.
        commit: of a repository of the Hub; empty for a folder.
    """

    unet_folder: Path
    class_name: str
    weights: str
    safetensors: bool
    size_px: int
    scheduler_config: dict[str, Any]
    commit: str


def is_on_hub(name: str) -> bool:
    """Whether a name is the id of a repository, and nothing on this machine."""
    if name.startswith((".", "/", "~")) or os.path.exists(name):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def find(key: str, name: str, *, fetch: bool) -> Own:
    """The model of that name.

    Args:
        key: what errors call it.
        name: a folder or a Hub id.
        fetch: whether the Hub may be asked; else only what was fetched before is looked at.

    Raises:
        CheckpointError: if it is not there, or is something that cannot be drawn with.
    """
    on_hub = is_on_hub(name)
    folder = _fetched(key, name, fetch) if on_hub else Path(os.path.expanduser(name))
    if not os.path.isdir(folder):
        raise CheckpointError("own_no_folder", key=key)
    unet_folder, scheduler_folder = parts_of(folder)
    config = _read(key, unet_folder / "config.json")
    _check_network(key, config)
    schedule = _read(key, scheduler_folder / "scheduler_config.json")
    safetensors = _has_safetensors(key, unet_folder)
    return Own(
        unet_folder=unet_folder,
        class_name=config["_class_name"],
        weights=f"{_WEIGHTS}*.{'safetensors' if safetensors else 'bin'}",
        safetensors=safetensors,
        size_px=_size_of(key, config),
        scheduler_config=schedule | {"prediction_type": _prediction_of(key, schedule)},
        commit=folder.name if on_hub else "",
    )


def _fetched(key: str, name: str, fetch: bool) -> Path:
    """The folder of a repository, in the cache of the Hub."""
    if fetch:
        return hub.fetch(key, name, WANTED_FILES)
    folder = hub.cached(name, WANTED_FILES)
    if folder is None or not _any_weights(parts_of(folder)[0]):
        raise CheckpointError("not_fetched", key=key)
    return folder


def _any_weights(unet_folder: Path) -> bool:
    """Whether a download got as far as the weights."""
    return any(unet_folder.glob(f"{_WEIGHTS}*"))


def parts_of(folder: Path) -> tuple[Path, Path]:
    """Where network and scheduler of a model lie, in the new layout or in the older one."""
    unet, scheduler = folder / "unet", folder / "scheduler"
    return (
        unet if os.path.isdir(unet) else folder,
        scheduler if os.path.isdir(scheduler) else folder,
    )


def _read(key: str, path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError("own_no_config", key=key, file=path.name) from error
    if not isinstance(config, dict) or not isinstance(config.get("_class_name"), str):
        raise CheckpointError("own_no_config", key=key, file=path.name)
    return config


def _check_network(key: str, config: Mapping[str, Any]) -> None:
    if config["_class_name"] not in NETWORKS:
        raise CheckpointError("own_class", key=key, got=show(config["_class_name"]))
    if is_class_conditional(config):
        raise CheckpointError("own_class_conditional", key=key)
    taken, given = channels_of(config)
    if (taken, given) != (3, 3):
        raise CheckpointError("own_channels", key=key, taken=show(taken), given=show(given))


def is_class_conditional(config: Mapping[str, Any]) -> bool:
    """Whether a network wants to be told of a class."""
    return bool(config.get("num_class_embeds") or config.get("class_embed_type"))


def channels_of(config: Mapping[str, Any]) -> tuple[Any, Any]:
    """How many channels a network takes and gives."""
    return config.get("in_channels", 3), config.get("out_channels", 3)


def stride_of(config: Mapping[str, Any]) -> int:
    """What the side of a picture must be a multiple of, to be halved as often as a network does."""
    return 2 ** (len(config["block_out_channels"]) - 1) * config.get("patch_size", 1)


def _size_of(key: str, config: Mapping[str, Any]) -> int:
    """The side of its pictures."""
    try:
        stride = stride_of(config)
        given = config["sample_size"]
        width, height = given if isinstance(given, list) else (given, given)
        fits = width == height and MIN_SIZE_PX <= width <= MAX_SIZE_PX and width % stride == 0
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError("own_no_size", key=key) from error
    if not fits or not isinstance(width, int):
        size = show(f"{width} x {height}").strip("'")
        raise CheckpointError(
            "own_size",
            key=key,
            minimum=MIN_SIZE_PX,
            maximum=MAX_SIZE_PX,
            stride=stride,
            got=size,
        )
    return width


def _has_safetensors(key: str, unet_folder: Path) -> bool:
    """Whether the weights are safetensors, which are taken where there are also pickles."""
    for ending in ("safetensors", "bin"):
        names = (f"{_WEIGHTS}.{ending}", f"{_WEIGHTS}.{ending}.index.json")
        if any(os.path.isfile(unet_folder / name) for name in names):
            return ending == "safetensors"
    raise CheckpointError("own_no_weights", key=key)


def _prediction_of(key: str, schedule: Mapping[str, Any]) -> str:
    """What the network was trained to predict; before schedulers said so, it was the noise."""
    if "beta_schedule" not in schedule:  # those of sigmas and flows have none
        raise CheckpointError("own_scheduler", key=key, got=show(schedule["_class_name"]))
    came = schedule.get("prediction_type", "epsilon")
    if came not in PREDICTIONS:
        accepted = ", ".join(PREDICTIONS)
        raise CheckpointError("own_prediction", key=key, accepted=accepted, got=show(came))
    steps = schedule.get("num_train_timesteps", 1000)
    if not isinstance(steps, int) or steps < MAX_STEPS:
        raise CheckpointError("own_timesteps", key=key, minimum=MAX_STEPS, got=show(steps))
    return came
