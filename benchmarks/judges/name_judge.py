"""A judge of names: is a picture what was asked for, or rather one of a thousand other things?

    python -m benchmarks.judges.name_judge

The CLIP judge of `benchmarks.judges.painting_judges`, which guidance never used, chooses among the
name that was asked for and those of all other emoji. The command writes these down, so that no
benchmark needs the data, and prints how often the judge is right on real emoji that it was not
trained on: of the held-out designer, and of the held-out names. Both are beside chance.
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

NAMES = Path(__file__).resolve().parent / "weights" / "emoji_names.txt"
TEMPLATES = ("{}", "a {}", "an emoji of a {}", "a drawing of a {}")
NEAREST = 5
_SAME_MEANING = 0.9  # cosine from which on another name is no wrong answer
_BATCH = 200


@dataclass(frozen=True)
class Share:
    """How often pictures are judged to be what was asked for.

    Attributes:
        first: the name asked for is nearest of all.
        in_nearest: it is among the `NEAREST`.
        choices: how many names there were to choose among, on average.
    """

    first: float
    in_nearest: float
    choices: float

    @property
    def chance(self) -> tuple[float, float]:
        """What guessing would give of both."""
        return 1 / self.choices, min(1.0, NEAREST / self.choices)


def load_judge(folder: Path = CLIP_JUDGE) -> Clip:
    """The CLIP that judges."""
    row = Checkpoint("clip-judge", "", 64, "", "", weights="open_clip_model.safetensors")
    return clip.open_folder(row, folder)


def known_names(path: Path = NAMES) -> list[str]:
    """The names of all emoji, as the command wrote them down.

    Raises:
        FileNotFoundError: if it was never run; the message says how to.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; python -m benchmarks.judges.name_judge makes it"
        )
    return path.read_text(encoding="utf-8").splitlines()


class NameJudge:
    """Judges whether pictures are what they should be, by any name.

    Args:
        model: the CLIP that judges.
        distractors: names that a picture may be taken for instead.
    """

    def __init__(self, model: Clip, distractors: Sequence[str]):
        self._model = model
        self._distractors = embed_names(model, distractors)  # (n, d)

    def ranks(self, pictures: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """How many other names are nearer to a picture than its own.

        Args:
            pictures: `(b, 3, h, w)` in [-1, 1].
            names: what each should show, `b` of any words.

        Returns:
            Ranks `(b,)`, 0 is the nearest, and the number of other names `(b,)`.
        """
        with torch.no_grad():
            parts = pictures.split(_BATCH)
            images = [clip.encode_images(self._model, p.to(self._model.device)) for p in parts]
        different = list(dict.fromkeys(names))
        asked = embed_names(self._model, different)[[different.index(name) for name in names]]
        image = torch.cat(images)  # (b, d)
        other = asked @ self._distractors.T < _SAME_MEANING  # (b, n)
        own = (image * asked).sum(dim=1, keepdim=True)
        nearer = (image @ self._distractors.T > own) & other
        return nearer.sum(dim=1).cpu(), other.sum(dim=1).cpu()

    def share(self, pictures: Tensor, names: Sequence[str]) -> Share:
        """How often pictures `(b, 3, h, w)` in [-1, 1] are judged to be what they should."""
        ranks, others = self.ranks(pictures, names)
        first, nearest = ranks == 0, ranks < NEAREST
        choices = others.double().mean().item() + 1
        return Share(first.double().mean().item(), nearest.double().mean().item(), choices)


def embed_names(model: Clip, names: Sequence[str]) -> Tensor:
    """`(n, d)`: of each name the mean over some ways to say it, of length 1."""
    texts = [template.format(name) for name in names for template in TEMPLATES]
    means = clip.encode_texts(model, texts).unflatten(0, (len(names), -1)).mean(dim=1)
    return F.normalize(means, dim=1)


@dataclass(frozen=True)
class Emoji:
    """Emoji with names.

    Attributes:
        pictures: `(n, 3, 64, 64)` in [-1, 1], each on some ground.
        names: of each.
    """

    pictures: Tensor
    names: list[str]


def load_emoji(data_folder: Path, wanted: Callable[[Mapping[str, Any]], bool]) -> Emoji:
    """The emoji of those rows that are wanted, each on a ground of its own.

    Raises:
        ValueError: if the data cannot be read.
    """
    pixels: list[Tensor] = []
    names: list[str] = []
    for name in _emoji_sources():
        rows = read_split(str((data_folder / name).resolve()), "train")
        told: Any = rows.select_columns(["set", "name", "category"])
        chosen: Any = rows.select([i for i, row in enumerate(told) if wanted(row)])
        for row in chosen.cast_column("image", ImageFeature(mode="RGBA")):
            pixels.append(fitted(row["image"]))
            names.append(row["name"])
    stacked = torch.stack(pixels)
    shown = composited(stacked, draw_backgrounds(len(stacked), torch.Generator().manual_seed(0)))
    return Emoji(F.interpolate(shown, size=64, mode="area"), names)


def _emoji_sources() -> list[str]:
    return [name for name in SOURCES if held_out.kind_of(name) == "emoji"]


def write_names(data_folder: Path, path: Path = NAMES) -> list[str]:
    """Writes the names of all emoji but people and flags, and returns them."""
    found: set[str] = set()
    for source in _emoji_sources():
        told: Any = read_split(str((data_folder / source).resolve()), "train")
        rows = told.select_columns(["name", "category"])
        found |= {row["name"] for row in rows if row["category"] not in ("People & Body", "Flags")}
    names = sorted(found)
    path.write_text("\n".join(names) + "\n", encoding="utf-8")
    return names


def parts(held: HeldOut) -> dict[str, Callable[[Mapping[str, Any]], bool]]:
    """The kinds of real emoji that the judge was not trained on."""

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
        found = judge.share(emoji.pictures, emoji.names)
        first, nearest = found.chance
        rows.append(
            [
                title,
                f"{len(emoji.names)}",
                f"{found.first:.1%} ({first:.1%})",
                f"{found.in_nearest:.1%} ({nearest:.1%})",
            ]
        )
    header = ("real emoji", "pictures", "right (chance)", f"among {NEAREST} nearest (chance)")
    print(markdown(header, rows))


if __name__ == "__main__":
    typer.run(main)
