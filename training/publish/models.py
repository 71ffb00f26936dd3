"""What of a checkpoint folder goes to the Hub: weights, samples, figures, and a card."""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from pipelines.diffusion import unets
from pipelines.models.table import BUNDLED, CLIPS, TABLE
from training.cards import model_card
from training.cards.checkpoint import WEIGHTS
from training.cards.parts import CARD_FILE, FACTS_FILE, FIGURES_FILE, NETWORKS_FILE, SAMPLES_FILE
from training.publish.uploads import File

CHECKPOINT = "checkpoint"

# Paths in a repository; whatever else lies in a folder stays here.
PATTERNS = (
    CARD_FILE,
    FACTS_FILE,
    FIGURES_FILE,
    SAMPLES_FILE,
    NETWORKS_FILE,
    "model_index.json",
    "unet/*.json",
    "unet/*.safetensors",
    "scheduler/*.json",
    "clip/*.json",
    "clip/*.safetensors",
    "clip/*.txt*",
    *CLIPS["clip-small"].needed,
)


def find_folder(name: str) -> Path:
    """The checkpoint folder that is meant, complete.

    Args:
        name: a bundled checkpoint's key, a checkpoint folder, or the folder of a training run.

    Raises:
        ValueError: if there is none, or its weights cannot be read.
    """
    bundled = name in {*TABLE, "clip-small"}
    places = (BUNDLED / name,) if bundled else (Path(name), Path(name) / CHECKPOINT)
    for folder in places:
        if (folder / FACTS_FILE).is_file():
            _check_weights(folder)
            return folder
    raise ValueError(
        f"folder must be {', '.join(TABLE)}, clip-small, a checkpoint folder with its "
        f"{FACTS_FILE}, or a run folder with its {CHECKPOINT}, got {name!r}"
    )


def _check_weights(folder: Path) -> None:
    weights = sorted(path for pattern in WEIGHTS for path in folder.glob(pattern))
    promised = {
        index.parent / shard
        for index in folder.glob("*/*.safetensors.index.json")
        for shard in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    }
    if not weights or not promised <= set(weights):
        raise ValueError(f"folder must hold all of its weights as safetensors, got {folder}")
    for path in weights:
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ValueError(f"folder must hold weights in good order, got {path}") from error


def files_of(folder: Path, repo_id: str) -> list[File]:
    """All that the repository of a checkpoint should have.

    Args:
        folder: of the checkpoint.
        repo_id: where its card says that it can be loaded from.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [File(path.relative_to(folder).as_posix(), path) for path in paths]
    made = [File(CARD_FILE, model_card.card_of(folder, repo_id).encode())]
    if _has_own_network(folder):
        made.append(File(NETWORKS_FILE, Path(unets.__file__)))
    names = {file.path for file in made}
    return made + [file for file in files if file.path not in names and _is_ours(file.path)]


def _is_ours(path: str) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in PATTERNS)


def _has_own_network(folder: Path) -> bool:
    """Whether the network's class is of this project, which diffusers does not know."""
    facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
    found = getattr(unets, facts.get("network", ""), None)
    return found is not None and found.__module__ == unets.__name__
