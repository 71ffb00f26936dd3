"""The table of checkpoints, with source, data and licence of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.core.assets import ASSETS
from pipelines.core.errors import CheckpointError
from pipelines.models import own_checkpoints, own_clips
from pipelines.models.names import usable_own_checkpoints
from pipelines.models.own_checkpoints import Own

BUNDLED = ASSETS / "checkpoints"


@dataclass(frozen=True)
class Checkpoint:
    """One row of the table.

    Attributes:
        key: its name in settings.
        summary: what it draws and how it is conditioned, in a few words.
        size_px: side of its pictures; 0 for a user's model that cannot be read yet.
        licence: of the weights.
        data: its training data.
        source: "bundled", "folder" or the repository on the Hub.
        repo_id: repository on the Hub; empty for others.
        needed: the files that must exist.
        weights: glob pattern of the weight files.
        own: folder or Hub id of a model that `own_checkpoints` reads: a user's, or one of `HUB`;
            empty for all others.
        channels: of its pictures: 3 is RGB, 1 grey.
        english_only: whether the sentences that it learned from were all English.
        conditions: what it can be told, of "words" and "picture"; empty is unconditional.
        sibling: key of the unconditional model that a bundled conditional one was begun from.
    """

    key: str
    summary: str
    size_px: int
    licence: str
    data: str
    source: str = "bundled"
    repo_id: str = ""
    needed: tuple[str, ...] = ("unet/config.json", "scheduler/scheduler_config.json")
    weights: str = "unet/diffusion_pytorch_model*.safetensors"
    own: str = ""
    channels: int = 3
    english_only: bool = False
    conditions: tuple[str, ...] = ()
    sibling: str = ""

    @property
    def folder(self) -> Path:
        """The folder of a bundled checkpoint."""
        return BUNDLED / self.key

    @property
    def counted(self) -> tuple[str, ...]:
        """Glob patterns of the files that decide the revision, in their order."""
        return (self.weights, *(own_clips.COUNTED if self.conditions else ()))


def _digits(conditioning: str, how: str) -> Checkpoint:
    return Checkpoint(
        key=f"digits-{conditioning}",
        summary=f"handwritten digits, the class {how}",
        size_px=28,
        licence="CC BY-SA 3.0",
        data="MNIST",
        channels=1,
    )


def told_words(sibling: str, *, licence: str, data: str) -> Checkpoint:
    """Returns the row of `WORDS_MODELS` that was begun from an unconditional model."""
    return Checkpoint(
        key=f"{sibling}-words",
        summary=f"what words or a picture say, begun from {sibling}",
        size_px=64,
        licence=licence,
        data=data,
        needed=(*Checkpoint.needed, *own_clips.NEEDED, own_clips.INDEX),
        conditions=("words", "picture"),
        sibling=sibling,
    )


TABLE: dict[str, Checkpoint] = {
    row.key: row
    for row in (
        Checkpoint(
            key="paintings",
            summary="paintings, fine-tuned from scenes",
            size_px=64,
            licence="non-commercial research",
            data="WikiArt, works made 1929 or before",
        ),
        Checkpoint(
            key="scenes",
            summary="buildings, forests, glaciers, mountains, seas and streets",
            size_px=64,
            licence="research",
            data="Intel scene images",
        ),
        Checkpoint(
            key="emoji",
            summary="emoji in their own and other colours, on grounds of any",
            size_px=64,
            licence="Apache 2.0",
            data="Noto and Blob emoji",
        ),
        _digits("embedding", "embedded and added to the time embedding"),
        _digits("cross-attention", "as tokens that the picture attends to"),
        _digits("channels", "as extra input channels"),
    )
}


def _hub_clip(key: str, repo_id: str, licence: str, data: str) -> Checkpoint:
    return Checkpoint(
        key=key,
        summary="CLIP: how well words fit a picture, knows nearly every word",
        size_px=224,
        licence=licence,
        data=data,
        source=f"Hub: {repo_id}",
        repo_id=repo_id,
        needed=("open_clip_config.json", "open_clip_model.safetensors"),
        weights="open_clip_model.safetensors",
        english_only=True,
    )


CLIPS: dict[str, Checkpoint] = {
    row.key: row
    for row in (
        Checkpoint(
            key="clip-small",
            summary="CLIP: how well words fit a picture, knows some ten thousand words",
            size_px=64,
            licence="non-commercial research",
            data="WikiArt, Flickr8k, scenes, flowers, emoji",
            needed=(
                "open_clip_config.json",
                "open_clip_model.safetensors",
                "bpe_simple_vocab.txt.gz",
                "words.txt",
            ),
            weights="open_clip_model.safetensors",
            english_only=True,
        ),
        _hub_clip(
            "ViT-B-32",
            "timm/vit_base_patch32_clip_224.openai",
            "MIT",
            "400 million pairs of the internet, gathered by OpenAI",
        ),
        _hub_clip(
            "ViT-B-32-laion",
            "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
            "MIT",
            "2 billion pairs of the internet, LAION-2B",
        ),
    )
}


def _hub_model(key: str, repo_id: str, summary: str, data: str, licence: str) -> Checkpoint:
    return Checkpoint(
        key=key,
        summary=summary,
        size_px=256,
        licence=licence,
        data=data,
        source=f"Hub: {repo_id}",
        repo_id=repo_id,
        own=repo_id,
    )


HUB: dict[str, Checkpoint] = {
    row.key: row
    for row in (
        _hub_model(
            "wikiart-256",
            "johnowhitaker/sd-class-wikiart-from-bedrooms",
            "paintings of 256 px, the course's, fine-tuned from bedrooms-256",
            "WikiArt",
            "see the Hub",
        ),
        _hub_model(
            "bedrooms-256", "google/ddpm-bedroom-256", "bedrooms", "LSUN bedrooms", "Apache 2.0"
        ),
        _hub_model("celebahq-256", "google/ddpm-celebahq-256", "faces", "CelebA-HQ", "Apache 2.0"),
        _hub_model(
            "churches-256", "google/ddpm-church-256", "churches", "LSUN churches", "Apache 2.0"
        ),
        _hub_model("cats-256", "google/ddpm-cat-256", "cats", "LSUN cats", "Apache 2.0"),
    )
}
"""Models of the Hub; they are read like the user's own, and fetched on first use."""


def table() -> dict[str, Checkpoint]:
    """Returns all checkpoints: those of `TABLE`, those of `HUB` and the user's own."""
    own = {key: _own_row(key, name) for key, name in usable_own_checkpoints().items()}
    return TABLE | HUB | own


def _own_row(key: str, name: str) -> Checkpoint:
    result, on_hub = look_up(key, name), own_checkpoints.is_on_hub(name)
    return Checkpoint(
        key=key,
        summary="your own model",
        size_px=0 if isinstance(result, CheckpointError) else result.size_px,
        licence="see the Hub" if on_hub else "your own",
        data="unknown",
        source=f"Hub: {name}" if on_hub else "folder",
        repo_id=name if on_hub else "",
        own=name,
        conditions=() if isinstance(result, CheckpointError) else result.conditions,
    )


def words_sibling(key: str) -> str:
    """Returns the key of the model that is told words in the place of another; empty if none is.

    Args:
        key: of a model; one that is told words itself is its own.
    """
    row = TABLE.get(key) or table().get(key)
    if row is not None and "words" in row.conditions:
        return key
    there = (row.key for row in TABLE.values() if row.sibling == key and row.folder.is_dir())
    return next(there, "")


def look_up(key: str, name: str) -> Own | CheckpointError:
    """Returns a user's model on this machine, or the error if it cannot be used."""
    try:
        return own_checkpoints.find(key, name, fetch=False)
    except CheckpointError as error:
        return error
