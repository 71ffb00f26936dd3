"""The user's own models: where their files are and whether this project can use them.

A model is a folder or a repository on the Hub, in the layout of diffusers with `unet/` and
`scheduler/`, or the older one with both configs at the root. This module reads no weights.
"""

from __future__ import annotations

import json
import os.path  # unlike pathlib's, its tests never raise
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from pipelines.core.errors import CheckpointError, Several
from pipelines.core.rules import show
from pipelines.diffusion.schedules import MAX_STEPS
from pipelines.models import hub, own_clips

CONDITIONAL = "WordsUNet2DModel"
WANTED_FILES = ["*.json", "*.safetensors", "*.bin", "clip/*.txt", "clip/*.txt.gz"]
NETWORKS = ("UNet2DModel", "SpaceToDepthUNet2DModel", CONDITIONAL)
CONDITIONS = ("words", "picture")
PREDICTIONS = ("epsilon", "v_prediction", "sample")
MIN_SIZE_PX, MAX_SIZE_PX = 16, 512

_WEIGHTS = "diffusion_pytorch_model"


@dataclass(frozen=True)
class Weights:
    """Which of the files in a folder the weights of a network are in.

    Attributes:
        pattern: glob pattern of the files.
        safetensors: whether they are safetensors; else pickles.
        variant: of diffusers, such as "fp16"; None is the usual one.
    """

    pattern: str
    safetensors: bool
    variant: str | None = None


@dataclass(frozen=True)
class Own:
    """A model of the user's that is usable if its weights match its config.

    Attributes:
        folder: of the model.
        unet_folder: folder of the network's config and weights.
        class_name: of the network, one of `NETWORKS`.
        weights: which files the weights are in.
        size_px: side of its pictures.
        scheduler_config: its `prediction_type` is one of `PREDICTIONS`.
        commit: of a repository on the Hub; empty for a folder.
        files: configs and weights.
        conditions: what the network can be told, of `CONDITIONS`; empty is unconditional.
    """

    folder: Path
    unet_folder: Path
    class_name: str
    weights: Weights
    size_px: int
    scheduler_config: dict[str, Any]
    commit: str
    files: tuple[Path, ...]
    conditions: tuple[str, ...] = ()

    @property
    def counted(self) -> tuple[str, ...]:
        """Glob patterns of the files that decide the revision, in their order."""
        unet = self.unet_folder.relative_to(self.folder) / self.weights.pattern
        return (str(unet), *(own_clips.COUNTED if self.conditions else ()))


def is_on_hub(name: str) -> bool:
    """Returns whether a name is the id of a repository and not a path on this machine."""
    if name.startswith((".", "/", "~")) or os.path.exists(name):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def find(key: str, name: str, *, fetch: bool) -> Own:
    """Returns a model of the user's.

    Args:
        key: its name in errors.
        name: a folder or a Hub id.
        fetch: whether it may be fetched from the Hub; else only the cache is searched.

    Raises:
        CheckpointError: if it is missing or cannot be used.
    """
    on_hub = is_on_hub(name)
    folder = _fetched(key, name, fetch) if on_hub else Path(os.path.expanduser(name))
    if not os.path.isdir(folder):
        raise CheckpointError("own_no_folder", key=key)
    folder = model_in(folder)
    if (folder / "state.pt").is_file() and not (folder / "unet").is_dir():
        raise CheckpointError("own_unfinished", key=key)
    unet_folder, scheduler_folder = parts_of(folder)
    config = _read(key, unet_folder / "config.json")
    _check_network(key, config)
    schedule = _read(key, scheduler_folder / "scheduler_config.json")
    weights = _weights_of(key, unet_folder)
    _check_shards(key, unet_folder, weights)
    conditions = _conditions_of(key, config)
    clip_files = own_clips.find(key, folder, config) if conditions else ()
    configs = (*unet_folder.glob("*.json"), scheduler_folder / "scheduler_config.json")
    return Own(
        folder=folder,
        unet_folder=unet_folder,
        class_name=config["_class_name"],
        weights=weights,
        size_px=_size_of(key, config),
        scheduler_config=schedule | {"prediction_type": _prediction_of(key, schedule)},
        commit=folder.name if on_hub else "",
        files=(*configs, *unet_folder.glob(weights.pattern), *clip_files),
        conditions=conditions,
    )


def _fetched(key: str, name: str, fetch: bool) -> Path:
    """Returns the folder of a repository in the cache of the Hub."""
    if fetch:
        try:
            return hub.fetch(key, name, WANTED_FILES)
        except CheckpointError as error:
            if not os.path.isdir(name.partition("/")[0]):
                raise
            reason = error.parts["reason"]  # it may be a folder that is misspelt
            raise CheckpointError("own_nowhere", key=key, reason=reason) from error
    folder = hub.cached(name, WANTED_FILES)
    if folder is None or not _any_weights(parts_of(folder)[0]):
        raise CheckpointError("not_fetched", key=key)
    return folder


def _any_weights(unet_folder: Path) -> bool:
    """Returns whether there are weights; an interrupted download may have none."""
    return any(unet_folder.glob(f"{_WEIGHTS}*"))


def model_in(folder: Path) -> Path:
    """Returns the folder of a model: that of a training has it in `checkpoint`."""
    within = folder / "checkpoint"
    is_model = os.path.isdir(folder / "unet") or os.path.isfile(folder / "config.json")
    return within if os.path.isdir(within) and not is_model else folder


def parts_of(folder: Path) -> tuple[Path, Path]:
    """Returns the folders of network and scheduler, in the new layout or in the older one."""
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
    inputs, outputs = channels_of(config)
    if (inputs, outputs) != (3, 3):
        raise CheckpointError("own_channels", key=key, taken=show(inputs), given=show(outputs))


def _conditions_of(key: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns what a network can be told; an older config does not say that it is everything."""
    if config["_class_name"] != CONDITIONAL:
        return ()
    told = config.get("conditions", CONDITIONS)
    is_known = isinstance(told, (list, tuple)) and all(name in CONDITIONS for name in told)
    if not is_known or not told:
        raise CheckpointError("own_config", key=key)
    return tuple(name for name in CONDITIONS if name in told)


def is_class_conditional(config: Mapping[str, Any]) -> bool:
    """Returns whether a network needs a class."""
    return bool(config.get("num_class_embeds") or config.get("class_embed_type"))


def channels_of(config: Mapping[str, Any]) -> tuple[Any, Any]:
    """Returns the number of input and of output channels of a network."""
    return config.get("in_channels", 3), config.get("out_channels", 3)


def stride_of(config: Mapping[str, Any]) -> int:
    """Returns the total stride of a network; sides of pictures must be multiples of it."""
    return 2 ** (len(config["block_out_channels"]) - 1) * config.get("patch_size", 1)


def _size_of(key: str, config: Mapping[str, Any]) -> int:
    """Returns the side of the model's pictures in pixels."""
    try:
        stride = stride_of(config)
        size = config["sample_size"]
        width, height = size if isinstance(size, list) else (size, size)
        fits = width == height and MIN_SIZE_PX <= width <= MAX_SIZE_PX and width % stride == 0
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError("own_no_size", key=key) from error
    if not fits or not isinstance(width, int):
        got = show(f"{width} x {height}").strip("'")
        raise CheckpointError(
            "own_size",
            key=key,
            minimum=MIN_SIZE_PX,
            maximum=MAX_SIZE_PX,
            stride=stride,
            got=got,
        )
    return width


def _weights_of(key: str, unet_folder: Path) -> Weights:
    """Returns the weights of a network: safetensors before pickles, the usual ones before others.

    Raises:
        CheckpointError: if there are none.
    """
    names = sorted(path.name for path in unet_folder.glob(f"{_WEIGHTS}*"))
    for ending in ("safetensors", "bin"):
        found = _variants(names, ending)
        if None in found:
            return Weights(f"{_WEIGHTS}*.{ending}", ending == "safetensors")
        if found:
            variant = "fp16" if "fp16" in found else found[0]
            return Weights(f"{_WEIGHTS}*.{variant}*.{ending}", ending == "safetensors", variant)
    raise CheckpointError("own_no_weights", key=key)


def _variants(names: Sequence[str], ending: str) -> list[str | None]:
    """Returns the variants of the weights with an ending; None is the usual one."""
    all_in_one = re.compile(rf"{_WEIGHTS}(?:\.(\w+))?\.{ending}")
    index = re.compile(rf"{_WEIGHTS}\.{ending}\.index(?:\.(\w+))?\.json")
    matches = (all_in_one.fullmatch(name) or index.fullmatch(name) for name in names)
    return [match[1] for match in matches if match]


def _check_shards(key: str, unet_folder: Path, weights: Weights) -> None:
    """Checks that every file that an index of shards lists is there.

    Raises:
        CheckpointError: if one is missing.
    """
    variant = f".{weights.variant}" if weights.variant else ""
    ending = "safetensors" if weights.safetensors else "bin"
    index = unet_folder / f"{_WEIGHTS}.{ending}.index{variant}.json"
    if not index.is_file() or (unet_folder / f"{_WEIGHTS}{variant}.{ending}").is_file():
        return
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        missing = [name for name in names if not os.path.isfile(unet_folder / name)]
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError("own_damaged", key=key, file=index.name) from error
    if missing:
        raise CheckpointError("own_files_missing", key=key, files=Several(missing))


def _prediction_of(key: str, schedule: Mapping[str, Any]) -> str:
    """Returns the prediction type of the network; configs of old schedulers omit epsilon."""
    if "beta_schedule" not in schedule:  # schedulers of sigmas and of flows have none
        raise CheckpointError("own_scheduler", key=key, got=show(schedule["_class_name"]))
    prediction = schedule.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise CheckpointError(
            "own_prediction", key=key, accepted=Several(PREDICTIONS), got=show(prediction)
        )
    steps = schedule.get("num_train_timesteps", 1000)
    if not isinstance(steps, int) or steps < MAX_STEPS:
        raise CheckpointError("own_timesteps", key=key, minimum=MAX_STEPS, got=show(steps))
    return prediction
