"""Who judges what words made of the paintings, and what they say of real ones.

    python -m benchmarks.judges.painting_judges

Two networks that guidance never used: a classifier of genres (`benchmarks.judges.genre_judge`),
and a CLIP with another kind of tower for pictures (RegNet, Radosavovic et al. 2020,
arXiv:2003.13678), trained with another seed and without half-formed pictures:

    python -m training.train_clip --architecture regnet --half-formed-by "" --seed 1 \\
      --model-save-name clip-judge --max-steps 1800
    python -m training.export_clip runs/clip-judge benchmarks/weights/clip-judge

Both are asked to choose among all kinds of painting. The command stores what they say of paintings
that neither they nor the CLIP that guides were trained on, and what those look like to the genre
judge, so that the benchmark needs no data.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from benchmarks import frechet
from benchmarks.judges import genre_judge, judge
from benchmarks.judges.genre_judge import DATA, KINDS
from pipelines.models import clip
from pipelines.models.clip import Clip
from pipelines.models.table import Checkpoint
from training.clip.pairs import load_pairs
from training.clip.towers import centred
from training.core.captions import GENRES

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
CLIP_JUDGE = WEIGHTS / "clip-judge"
REFERENCE = WEIGHTS / "paintings_reference.safetensors"
_BATCH = 200


@dataclass(frozen=True)
class Shares:
    """Which share of pictures is of the kind that was asked for.

    Attributes:
        genre: as the genre judge sees it.
        clip: as the CLIP judge does.
        guide: as the CLIP that guided does; NaN if there is none.
    """

    genre: float
    clip: float
    guide: float = float("nan")

    @property
    def judged(self) -> float:
        """The mean of the two judges; the guide has no say."""
        return (self.genre + self.clip) / 2


def mean(shares: Sequence[Shares]) -> Shares:
    """Of every figure by itself."""
    columns = zip(*map(dataclasses.astuple, shares), strict=True)
    return Shares(*(statistics.mean(values) for values in columns))


@dataclass(frozen=True)
class Reference:
    """Real paintings that neither the judges nor the CLIP that guides were trained on.

    Attributes:
        shares: per kind, what the judges say of them.
        features: what they look like to the genre judge.
        counts: per kind, how many there are.
    """

    shares: dict[str, Shares]
    features: frechet.Gaussian
    counts: dict[str, int]


class Judges:
    """The two judges, and what the guide itself thinks.

    Args:
        guide: the CLIP that guides; None if nothing was guided.
    """

    def __init__(self, guide: Clip | None = None):
        self._genre = genre_judge.load()
        row = Checkpoint("clip-judge", "", 64, "", "", weights="open_clip_model.safetensors")
        self._clip = clip.open_folder(row, CLIP_JUDGE)
        self._guide = guide

    @property
    def reference(self) -> Reference:
        return load_reference()

    def shares(self, pictures: Tensor, kind: str) -> Shares:
        """What each says of pictures `(n, 3, 64, 64)` in [-1, 1]."""
        wanted = KINDS.index(kind)
        seen = [judge.classify(self._genre, pictures.cpu())]
        seen += [nearest_kind(model, pictures) for model in (self._clip, self._guide) if model]
        return Shares(*((found == wanted).double().mean().item() for found in seen))

    def features(self, pictures: Tensor) -> frechet.Gaussian:
        """What pictures look like to the genre judge."""
        return frechet.fit(judge.features(self._genre, pictures.cpu()).numpy())

    def distance(self, pictures: Tensor) -> float:
        """Fréchet distance to the real paintings, in the features of the genre judge."""
        return frechet.between(self.features(pictures), self.reference.features)


def nearest_kind(model: Clip, pictures: Tensor) -> Tensor:
    """The number in `KINDS` of what a CLIP sees, `(n,)`, of `(n, 3, h, w)` in [-1, 1]."""
    said = [[clip.encode_text(model, text) for text in GENRES[kind]] for kind in KINDS]
    kinds = F.normalize(torch.stack([torch.stack(texts).mean(0) for texts in said]), dim=1)
    with torch.no_grad():
        parts = [clip.encode_images(model, p.to(model.device)) for p in pictures.split(_BATCH)]
    return (torch.cat(parts) @ kinds.T).argmax(dim=1).cpu()


def load_reference(path: Path = REFERENCE) -> Reference:
    """What the command stored.

    Raises:
        FileNotFoundError: if it was never run; the message says how to.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; python -m benchmarks.judges.painting_judges makes it"
        )
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        arrays = [file.get_tensor(name).double().numpy() for name in ("mean", "covariance")]
    shares = {kind: Shares(*of) for kind, of in json.loads(metadata["shares"]).items()}
    return Reference(shares, frechet.Gaussian(*arrays), json.loads(metadata["counts"]))


def main(
    data_folder: Annotated[Path, typer.Option(help="where the data sets lie")] = DATA,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 is PyTorch's choice")] = 0,
) -> None:
    """Stores what the judges say of real held-out paintings, and prints it."""
    if threads:
        torch.set_num_threads(threads)
    judges = Judges()
    _, unseen = load_pairs(data_folder, "wikiart")
    features = judges.features(centred(unseen.pixels))
    known, labels = genre_judge.labelled(unseen)
    pictures = {k: centred(known.pixels[labels == i]) for i, k in enumerate(KINDS)}
    shares = {kind: judges.shares(of, kind) for kind, of in pictures.items() if len(of)}
    tensors = {
        "mean": torch.from_numpy(features.mean).float(),
        "covariance": torch.from_numpy(features.covariance).float(),
    }
    metadata = {
        "shares": json.dumps({kind: (of.genre, of.clip) for kind, of in shares.items()}),
        "counts": json.dumps({kind: len(of) for kind, of in pictures.items()}),
    }
    save_file(tensors, REFERENCE, metadata)
    REFERENCE.chmod(0o644)  # safetensors lets nobody else read it
    for kind, of in shares.items():
        print(f"{kind:20} {len(pictures[kind]):4}  {of.genre:.0%}  {of.clip:.0%}")


if __name__ == "__main__":
    typer.run(main)
