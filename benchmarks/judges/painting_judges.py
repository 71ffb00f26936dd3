"""The judges of text guidance on paintings, and their results for real paintings.

    python -m benchmarks.judges.painting_judges

They are two networks that guidance never uses: a classifier of genres
(`benchmarks.judges.genre_judge`), and a CLIP with another kind of image encoder (RegNet,
Radosavovic et al. 2020, arXiv:2003.13678), trained with another seed and without half-formed
pictures:

    python -m training.train_clip --architecture regnet --half-formed-by "" --seed 1 \\
      --model-save-name clip-judge --max-steps 1800
    python -m training.export_clip runs/clip-judge benchmarks/weights/clip-judge

Both choose among all kinds of painting. The command stores their results for paintings that neither
they nor the guiding CLIP were trained on, and the genre judge's features of these, so that the
benchmark needs no data.
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

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
CLIP_JUDGE = WEIGHTS / "clip-judge"
REFERENCE = WEIGHTS / "paintings_reference.safetensors"
_BATCH = 200


@dataclass(frozen=True)
class Shares:
    """The share of pictures of the wanted kind.

    Attributes:
        genre: according to the genre judge.
        clip: according to the CLIP judge.
        guide: according to the guiding CLIP; NaN without one.
    """

    genre: float
    clip: float
    guide: float = float("nan")

    @property
    def judged(self) -> float:
        """The mean of the two judges, without the guide."""
        return (self.genre + self.clip) / 2


def mean(shares: Sequence[Shares]) -> Shares:
    """Returns the mean of each share."""
    columns = zip(*map(dataclasses.astuple, shares), strict=True)
    return Shares(*(statistics.mean(values) for values in columns))


@dataclass(frozen=True)
class Reference:
    """Results for real paintings that neither the judges nor the guiding CLIP were trained on.

    Attributes:
        shares: per kind, the results of the judges.
        features: moments of the genre judge's features.
        counts: per kind, the number of paintings.
    """

    shares: dict[str, Shares]
    features: frechet.Gaussian
    counts: dict[str, int]


class Judges:
    """The two judges, and the guide for comparison.

    Args:
        guide: the guiding CLIP; None without guidance.
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
        """Returns the shares of pictures `(n, 3, 64, 64)` in [-1, 1] of a kind, by judge."""
        wanted = KINDS.index(kind)
        predictions = [judge.classify(self._genre, pictures.cpu())]
        predictions += [
            nearest_kind(model, pictures) for model in (self._clip, self._guide) if model
        ]
        return Shares(*((predicted == wanted).double().mean().item() for predicted in predictions))

    def features(self, pictures: Tensor) -> frechet.Gaussian:
        """Returns the moments of the genre judge's features of pictures."""
        return frechet.fit(judge.features(self._genre, pictures.cpu()).numpy())

    def distance(self, pictures: Tensor) -> float:
        """Returns the Fréchet distance to the real paintings, in the genre judge's features."""
        return frechet.between(self.features(pictures), self.reference.features)


def nearest_kind(model: Clip, pictures: Tensor) -> Tensor:
    """Returns a CLIP's predictions as indices in `KINDS`, `(n,)`, for `(n, 3, h, w)` in [-1, 1]."""
    embeddings = [[clip.encode_text(model, text) for text in GENRES[kind]] for kind in KINDS]
    kinds = F.normalize(torch.stack([torch.stack(texts).mean(0) for texts in embeddings]), dim=1)
    with torch.no_grad():
        parts = [clip.encode_images(model, p.to(model.device)) for p in pictures.split(_BATCH)]
    return (torch.cat(parts) @ kinds.T).argmax(dim=1).cpu()


def load_reference(path: Path = REFERENCE) -> Reference:
    """Returns the results that the command stored.

    Raises:
        FileNotFoundError: if the command was never run; the message names it.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing; python -m benchmarks.judges.painting_judges makes it"
        )
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        arrays = [file.get_tensor(name).double().numpy() for name in ("mean", "covariance")]
    shares = {kind: Shares(*values) for kind, values in json.loads(metadata["shares"]).items()}
    return Reference(shares, frechet.Gaussian(*arrays), json.loads(metadata["counts"]))


def main(
    data_folder: Annotated[Path, typer.Option(help="where the data sets lie")] = DATA,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 is PyTorch's choice")] = 0,
) -> None:
    """Stores what the judges say of real held-out paintings, and prints it."""
    if threads:
        torch.set_num_threads(threads)
    judges = Judges()
    _, held_out = load_pairs(data_folder, "wikiart")
    features = judges.features(centred(held_out.pixels))
    labelled_pairs, labels = genre_judge.labelled(held_out)
    pictures = {k: centred(labelled_pairs.pixels[labels == i]) for i, k in enumerate(KINDS)}
    shares = {kind: judges.shares(values, kind) for kind, values in pictures.items() if len(values)}
    tensors = {
        "mean": torch.from_numpy(features.mean).float(),
        "covariance": torch.from_numpy(features.covariance).float(),
    }
    metadata = {
        "shares": json.dumps(
            {kind: (values.genre, values.clip) for kind, values in shares.items()}
        ),
        "counts": json.dumps({kind: len(values) for kind, values in pictures.items()}),
    }
    save_file(tensors, REFERENCE, metadata)
    REFERENCE.chmod(0o644)  # safetensors makes it readable only for the owner
    for kind, values in shares.items():
        print(f"{kind:20} {len(pictures[kind]):4}  {values.genre:.0%}  {values.clip:.0%}")


if __name__ == "__main__":
    typer.run(main)
