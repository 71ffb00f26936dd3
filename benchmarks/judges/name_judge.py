"""A judge of names: does a picture show what the prompt names, or rather another of 1,000 things?

    python -m benchmarks.judges.name_judge

The CLIP judge of `benchmarks.judges.painting_judges`, which guidance never uses, chooses among the
wanted name and the names of all other emoji. The command stores the names, so that no benchmark
needs the data, and prints the judge's accuracy on real emoji that it was not trained on, those of
the held-out designer and those of the held-out names, each with its chance level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from datasets import Image as ImageFeature
from torch import Tensor

from benchmarks.judges.painting_judges import CLIP_JUDGE
from benchmarks.scoring import markdown
from pipelines.models import clip
from pipelines.models.clip import Clip
from pipelines.models.table import Checkpoint
from training.clip.pairs import SOURCES, fitted
from training.core import held_out
from training.core.backgrounds import composited, draw_backgrounds
from training.core.data import read_split
from training.core.held_out import DATA, HeldOut

NAMES = Path(__file__).resolve().parents[1] / "weights" / "emoji_names.txt"
TEMPLATES = ("{}", "a {}", "an emoji of a {}", "a drawing of a {}")
NEAREST = 5
_SAME_MEANING = 0.9  # names with at least this cosine mean the same thing
_BATCH = 200


@dataclass(frozen=True)
class Share:
    """The shares of pictures that the judge takes for what they should show.

    Attributes:
        first: share whose wanted name is the nearest of all.
        in_nearest: share whose wanted name is among the `NEAREST`.
        choices: mean number of names to choose from.
    """

    first: float
    in_nearest: float
    choices: float

    @property
    def chance(self) -> tuple[float, float]:
        """The shares of random guesses, `first` and `in_nearest`."""
        return 1 / self.choices, min(1.0, NEAREST / self.choices)


def load_judge(folder: Path = CLIP_JUDGE) -> Clip:
    """Returns the CLIP judge."""
    row = Checkpoint("clip-judge", "", 64, "", "", weights="open_clip_model.safetensors")
    return clip.open_folder(row, folder)


def known_names(path: Path = NAMES) -> list[str]:
    """Returns the names of all emoji, as the command stored them.

    Raises:
        FileNotFoundError: if the command was never run; the message names it.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; python -m benchmarks.judges.name_judge makes it"
        )
    return path.read_text(encoding="utf-8").splitlines()


class NameJudge:
    """Judges whether pictures show what they should, by any name.

    Args:
        model: the CLIP judge.
        distractors: names of other things that a picture may show.
    """

    def __init__(self, model: Clip, distractors: Sequence[str]):
        self._model = model
        self._distractors = embed_names(model, distractors)  # (n, d)

    def ranks(self, pictures: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Returns how many other names are nearer to each picture than its own name.

        Args:
            pictures: `(b, 3, h, w)` in [-1, 1].
            names: the wanted name of each picture, any words.

        Returns:
            Ranks `(b,)`, 0 is the nearest, and the number of other names `(b,)`.
        """
        with torch.no_grad():
            parts = pictures.split(_BATCH)
            images = [clip.encode_images(self._model, p.to(self._model.device)) for p in parts]
        different = list(dict.fromkeys(names))
        targets = embed_names(self._model, different)[[different.index(name) for name in names]]
        image = torch.cat(images)  # (b, d)
        is_other = targets @ self._distractors.T < _SAME_MEANING  # (b, n)
        target_cosines = (image * targets).sum(dim=1, keepdim=True)
        is_nearer = (image @ self._distractors.T > target_cosines) & is_other
        return is_nearer.sum(dim=1).cpu(), is_other.sum(dim=1).cpu()

    def share(self, pictures: Tensor, names: Sequence[str]) -> Share:
        """Returns the shares of pictures `(b, 3, h, w)` in [-1, 1] that show their names."""
        ranks, others = self.ranks(pictures, names)
        first, nearest = ranks == 0, ranks < NEAREST
        choices = others.double().mean().item() + 1
        return Share(first.double().mean().item(), nearest.double().mean().item(), choices)


def embed_names(model: Clip, names: Sequence[str]) -> Tensor:
    """Returns embeddings `(n, d)` of names, of length 1: each is a mean over templates."""
    texts = [template.format(name) for name in names for template in TEMPLATES]
    means = clip.encode_texts(model, texts).unflatten(0, (len(names), -1)).mean(dim=1)
    return F.normalize(means, dim=1)


@dataclass(frozen=True)
class Emoji:
    """Emoji with names.

    Attributes:
        pictures: `(n, 3, 64, 64)` in [-1, 1], each on a random background.
        names: of the emoji.
    """

    pictures: Tensor
    names: list[str]


def load_emoji(data_folder: Path, wanted: Callable[[Mapping[str, Any]], bool]) -> Emoji:
    """Returns the emoji of all rows that are `wanted`, each on its own background.

    Raises:
        ValueError: if the data cannot be read.
    """
    pixels: list[Tensor] = []
    names: list[str] = []
    for name in _emoji_sources():
        rows = read_split(str((data_folder / name).resolve()), "train")
        columns: Any = rows.select_columns(["set", "name", "category"])
        chosen: Any = rows.select([i for i, row in enumerate(columns) if wanted(row)])
        for row in chosen.cast_column("image", ImageFeature(mode="RGBA")):
            pixels.append(fitted(row["image"]))
            names.append(row["name"])
    stacked = torch.stack(pixels)
    pictures = composited(stacked, draw_backgrounds(len(stacked), torch.Generator().manual_seed(0)))
    return Emoji(F.interpolate(pictures, size=64, mode="area"), names)


def _emoji_sources() -> list[str]:
    return [name for name in SOURCES if held_out.kind_of(name) == "emoji"]


def write_names(data_folder: Path, path: Path = NAMES) -> list[str]:
    """Writes the names of all emoji except people and flags, and returns them."""
    unique_names: set[str] = set()
    for source in _emoji_sources():
        data: Any = read_split(str((data_folder / source).resolve()), "train")
        rows = data.select_columns(["name", "category"])
        unique_names |= {
            row["name"] for row in rows if row["category"] not in ("People & Body", "Flags")
        }
    names = sorted(unique_names)
    path.write_text("\n".join(names) + "\n", encoding="utf-8")
    return names


def parts(held: HeldOut) -> dict[str, Callable[[Mapping[str, Any]], bool]]:
    """Returns filters of the real emoji that the judge was not trained on, by title."""

    def is_thing(row: Mapping[str, Any]) -> bool:
        return row["category"] not in ("People & Body", "Flags")

    def by_name(row: Mapping[str, Any]) -> bool:
        return held_out.normalised(row["name"]) in held.names

    return {
        "held-out designer": lambda r: is_thing(r) and r["set"] in held.sets and not by_name(r),
        "held-out names": lambda r: by_name(r) and r["set"] not in held.sets,
        "held-out names by the held-out designer": lambda r: by_name(r) and r["set"] in held.sets,
    }


def main(
    data_folder: Annotated[Path, typer.Option(help="where the data sets lie")] = DATA,
    judge_folder: Annotated[Path, typer.Option(help="where the judge lies")] = CLIP_JUDGE,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 is PyTorch's choice")] = 0,
) -> None:
    """Writes the names down, and prints how often the judge is right on real emoji."""
    if threads:
        torch.set_num_threads(threads)
    judge = NameJudge(load_judge(judge_folder), write_names(data_folder))
    rows = []
    for title, wanted in parts(held_out.load()).items():
        emoji = load_emoji(data_folder, wanted)
        share = judge.share(emoji.pictures, emoji.names)
        first, nearest = share.chance
        rows.append(
            [
                title,
                f"{len(emoji.names)}",
                f"{share.first:.1%} ({first:.1%})",
                f"{share.in_nearest:.1%} ({nearest:.1%})",
            ]
        )
    header = ("real emoji", "pictures", "right (chance)", f"among {NEAREST} nearest (chance)")
    print(markdown(header, rows))


if __name__ == "__main__":
    typer.run(main)
