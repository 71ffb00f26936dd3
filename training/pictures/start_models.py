"""Where a training run starts: new weights, a bundled checkpoint, a folder, or a Hub id."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import DDPMScheduler, UNet2DModel
from huggingface_hub import snapshot_download

from pipelines.diffusion.unets import SpaceToDepthUNet2DModel, WordsUNet2DModel
from pipelines.models import checkpoints, own_checkpoints
from pipelines.models.clip_folder import Clip
from pipelines.models.table import CLIPS, TABLE
from training.cards.parts import FACTS_FILE, pictures_per_step
from training.core.data import folder_name, is_local, joined_folder_names
from training.core.objective import Prediction
from training.pictures.recipe import Recipe

NUM_TIMESTEPS = 1000
_MAX_ANCESTORS = 10


def new_model(
    image_size: int, prediction: Prediction, seed: int
) -> tuple[UNet2DModel, DDPMScheduler]:
    """The network that learns most per second on little, with random weights, and its schedule.

    Raises:
        ValueError: if the network cannot draw pictures of that size.
    """
    torch.manual_seed(seed)
    unet = SpaceToDepthUNet2DModel(sample_size=image_size)
    check_size(unet, image_size)
    return unet, DDPMScheduler(
        num_train_timesteps=NUM_TIMESTEPS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=prediction,
    )


def load_model(
    name: str, image_size: int, *, conditional: bool = False
) -> tuple[UNet2DModel, DDPMScheduler]:
    """A model to go on from, set to draw pictures of `image_size`.

    Args:
        name: key of a bundled checkpoint, a folder, or a Hub id; a diffusers pipeline with `unet/`
            and `scheduler/`, or the older layout with both at the root.
        image_size: side in pixels; may differ from what the model was trained on.
        conditional: whether the run has a condition, so that the model may be told words already.

    Raises:
        ValueError: if it cannot be read, is of another kind, or cannot draw that size.
    """
    unet_folder, scheduler_folder = own_checkpoints.parts_of(folder_of(name))
    try:
        kind = _class_of(unet_folder)
        unet = kind.from_pretrained(unet_folder, low_cpu_mem_usage=False)
        scheduler = DDPMScheduler.from_pretrained(scheduler_folder)
    except Exception as error:  # JSON, safetensors and diffusers each have errors of their own
        raise _refused(name, _reason(error)) from error
    _check_kind(name, unet)
    if isinstance(unet, WordsUNet2DModel) and not conditional:
        raise ValueError(
            "condition must be set for a start_model that is told words or a picture, got none "
            f"for {name!r}"
        )
    check_size(unet, image_size)
    unet.register_to_config(sample_size=image_size)
    return unet, cast(DDPMScheduler, scheduler)


def with_words(unet: UNet2DModel, clip: Clip, seed: int) -> WordsUNet2DModel:
    """An unconditional network that can be told what a CLIP reads; it predicts as before.

    Raises:
        ValueError: if it is a network of another kind.
    """
    if type(unet) is not SpaceToDepthUNet2DModel:
        raise ValueError(
            "start_model must be a SpaceToDepthUNet2DModel for a condition, got a "
            f"{type(unet).__name__}"
        )
    torch.manual_seed(seed)
    word_dim, vector_dim = sizes_of(clip)
    return WordsUNet2DModel.from_unconditional(unet, word_dim=word_dim, vector_dim=vector_dim)


def sizes_of(clip: Clip) -> tuple[int, int]:
    """Returns `word_dim` and `vector_dim` of a network that reads with a CLIP."""
    config: Any = clip.model
    return config.positional_embedding.shape[1], 2 * config.text_projection.shape[1] + 1


def check_clip(unet: WordsUNet2DModel, clip: Clip, name: str) -> None:
    """Refuses a CLIP that a network cannot read with.

    Raises:
        ValueError: one sentence with both sizes.
    """
    wanted, got = (unet.config["word_dim"], unet.config["vector_dim"]), sizes_of(clip)
    if got != wanted:
        raise ValueError(
            f"clip_model must give {wanted[0]} numbers for a word and {wanted[1]} for a text and a "
            f"picture, as the start model reads, got {name!r} with {got[0]} and {got[1]}"
        )


def _class_of(unet_folder: Path) -> type[UNet2DModel]:
    config = json.loads((unet_folder / "config.json").read_text(encoding="utf-8"))
    name = config["_class_name"]
    if name not in own_checkpoints.NETWORKS:
        raise ValueError(f"a network of the class {name}")
    return checkpoints.network_class(name)


def _check_kind(name: str, unet: UNet2DModel) -> None:
    if own_checkpoints.is_class_conditional(unet.config):
        raise _refused(name, "a class-conditional network")
    taken, given = own_checkpoints.channels_of(unet.config)
    if taken not in (1, 3) or given != taken:
        raise _refused(name, f"a network with {taken} channels in and {given} out")


def folder_of(name: str) -> Path:
    """Returns the folder of a start model, fetched from the Hub if it is there.

    Raises:
        ValueError: if there is none.
    """
    if name in TABLE:
        return TABLE[name].folder
    if Path(name).is_dir():
        return own_checkpoints.model_in(Path(name))
    if is_local(name):
        raise _refused(name, "no such folder")
    try:
        return Path(snapshot_download(name, allow_patterns=own_checkpoints.WANTED_FILES))
    except Exception as error:  # offline, unknown, gated: each has an error of its own
        raise _refused(name, _reason(error)) from error


def _refused(name: str, came: str) -> ValueError:
    return ValueError(
        "start_model must be a bundled checkpoint, a folder or a Hub id of an unconditional "
        f"UNet2DModel pipeline, got {name!r}: {came}"
    )


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def check_size(unet: UNet2DModel, image_size: int) -> None:
    """Refuses sizes that the network cannot halve as often as it does.

    Raises:
        ValueError: naming the nearest sizes that fit.
    """
    stride = own_checkpoints.stride_of(unet.config)
    if image_size % stride:
        below = max(stride, image_size // stride * stride)
        raise ValueError(
            f"image_size must be a multiple of {stride} for this network, such as {below} or "
            f"{below + stride}, got {image_size}"
        )


def configs(unet: UNet2DModel, scheduler: DDPMScheduler) -> dict[str, str]:
    """What `rebuilt` needs to know of a network without its weights, and of its schedule."""
    return {"unet_config": unet.to_json_string(), "scheduler_config": scheduler.to_json_string()}


def rebuilt(saved: Mapping[str, Any]) -> tuple[UNet2DModel, DDPMScheduler]:
    """The network, with random weights, and the schedule that `configs` described."""
    config = json.loads(saved["unet_config"])
    unet = checkpoints.network_class(config["_class_name"]).from_config(config)
    scheduler = DDPMScheduler.from_config(json.loads(saved["scheduler_config"]))
    return cast(UNet2DModel, unet), cast(DDPMScheduler, scheduler)


def network_of(
    recipe: Recipe, state: Mapping[str, Any] | None = None
) -> tuple[UNet2DModel, DDPMScheduler]:
    """Network and schedule of a run; a saved one needs no start model any more.

    Args:
        recipe: of the run.
        state: what the run saved, if it did; the weights in it are left alone.

    Raises:
        ValueError: if the start model cannot be read or cannot draw pictures of that size.
    """
    if state is not None and "unet_config" in state:
        return rebuilt(state)
    if recipe.start_model:
        conditional = bool(recipe.conditions)
        return load_model(recipe.start_model, recipe.image_size, conditional=conditional)
    return new_model(recipe.image_size, recipe.prediction, recipe.seed)


def public_name(name: str) -> str:
    """How a card calls a start model or a CLIP: a bundled key, a Hub id, or its run's name."""
    if name in TABLE or name in CLIPS or not is_local(name):
        return name
    recorded = _facts_of(name).get("name")
    folder = folder_name(name)
    return recorded or (folder_name(f"{name}/..") if folder == "checkpoint" else folder)


def lineage(name: str, depth: int = 0) -> dict[str, Any]:
    """What is known of the training of a start model and of those it was started from in turn.

    Args:
        name: of a start model; empty is none.
        depth: how many generations before the one that is asked for.

    Returns:
        Plain data; empty for no start model, only a name if nothing is known of its training.
    """
    if not name or depth == _MAX_ANCESTORS:
        return {}
    facts = _facts_of(name)
    recipe = facts.get("recipe", {})
    if "dataset_name" not in recipe:
        return {"name": public_name(name)}
    before = facts.get("started_from") or lineage(recipe.get("start_model", ""), depth + 1)
    return {
        "name": public_name(name),
        "dataset_name": joined_folder_names(recipe["dataset_name"]),
        "image_size": recipe["image_size"],
        "steps": facts["steps"],
        "pictures_seen": facts["steps"] * pictures_per_step(recipe),
        "seconds": facts["seconds"],
        "started_from": before,
    }


def _facts_of(name: str) -> dict[str, Any]:
    """The `recipe.json` of a start model, empty if it has none of ours."""
    try:
        facts = json.loads((folder_of(name) / FACTS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
