"""How well a CLIP finds sentences and labels for pictures it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from open_clip import CLIP, SimpleTokenizer
from torch import Tensor

from training.clip.pairs import Pairs
from training.clip.towers import CONTEXT_LENGTH, centred, to_input
from training.clip.trainer import Trainer
from training.core.reporting import Reporter

RANKS = (1, 5, 10)
_BATCH = 250
TEMPLATES = ("{}", "a picture of {}", "a photo of {}", "a painting of {}")

Figures = dict[str, dict[str, float]]


@torch.no_grad()
def embed_pictures(model: CLIP, pictures: Tensor) -> Tensor:
    """`(n, 3, h, w)` as the model takes them to `(n, d)` of length 1."""
    device = next(model.parameters()).device
    parts = [model.encode_image(p.to(device), normalize=True) for p in pictures.split(_BATCH)]
    return torch.cat(parts).float()


@torch.no_grad()
def embed_sentences(model: CLIP, tokenizer: SimpleTokenizer, sentences: Sequence[str]) -> Tensor:
    """`n` sentences to `(n, d)` of length 1."""
    device = next(model.parameters()).device
    tokens = tokenizer(list(sentences), CONTEXT_LENGTH).to(device)
    return torch.cat([model.encode_text(t, normalize=True) for t in tokens.split(_BATCH)]).float()


def retrieval(image: Tensor, text: Tensor) -> dict[str, float]:
    """Share of pictures whose sentence is among the nearest k, and the other way round.

    Args:
        image: `(n, d)`.
        text: `(n, d)`, of the same order.
    """
    similarity = image @ text.T  # (n, n)
    own = similarity.diagonal()
    shares: dict[str, float] = {}
    for name, better in (
        ("sentence of a picture", (similarity > own[:, None]).sum(dim=1)),
        ("picture of a sentence", (similarity > own[None, :]).sum(dim=0)),
    ):
        shares |= {f"{name}, R@{k}": (better < k).float().mean().item() for k in RANKS}
    return shares


def class_embeddings(model: CLIP, tokenizer: SimpleTokenizer, names: Sequence[str]) -> Tensor:
    """`(k, d)`: of each name the mean over some ways to say it, of length 1."""
    texts = [template.format(name) for name in names for template in TEMPLATES]
    means = embed_sentences(model, tokenizer, texts).unflatten(0, (len(names), -1)).mean(dim=1)
    return torch.nn.functional.normalize(means, dim=1)


def zero_shot(image: Tensor, classes: Tensor, labels: Sequence[int]) -> float:
    """Share of pictures `(n, d)` whose nearest class `(k, d)` is theirs."""
    nearest = (image @ classes.T).argmax(dim=1).cpu()
    return (nearest == torch.tensor(labels)).float().mean().item()


def judge_trainer(trainer: Trainer, held_out: Mapping[str, Pairs]) -> Figures:
    """Returns what `judge` says of a run's averaged weights."""
    return judge(trainer.averaged(), trainer.tokenizer, held_out)


def report_judgement(
    trainer: Trainer, held_out: Mapping[str, Pairs], reporter: Reporter
) -> dict[str, Any]:
    """Reports what `judge` says of a run's averaged weights, and returns it."""
    figures = judge_trainer(trainer, held_out)
    reporter.scalars(flat(figures), trainer.step)
    return dict(figures)


def judge(model: CLIP, tokenizer: SimpleTokenizer, held_out: Mapping[str, Pairs]) -> Figures:
    """Every figure of the model card, per data set, each beside what guessing would give."""
    figures: Figures = {}
    for name, pairs in held_out.items():
        pictures = to_input(centred(pairs.pixels))
        if any(pairs.labels):
            figures[name] = _labels(model, tokenizer, pictures, pairs.labels)
        else:
            firsts = [texts[0] for texts in pairs.sentences]
            image, text = embed_pictures(model, pictures), embed_sentences(model, tokenizer, firsts)
            chance = {f"chance, R@{k}": k / len(pairs) for k in RANKS}
            figures[name] = retrieval(image, text) | chance
        figures[name] = {key: round(value, 4) for key, value in figures[name].items()}
    return figures


def _labels(
    model: CLIP, tokenizer: SimpleTokenizer, pictures: Tensor, labels: Sequence[str]
) -> dict[str, float]:
    names = sorted(set(labels) - {""})
    labelled = [i for i, label in enumerate(labels) if label]
    classes = class_embeddings(model, tokenizer, names)
    wanted = [names.index(labels[i]) for i in labelled]
    accuracy = zero_shot(embed_pictures(model, pictures[labelled]), classes, wanted)
    return {"accuracy": accuracy, "chance": 1 / len(names), "pictures": len(labelled)}


def flat(figures: Figures) -> dict[str, float]:
    """The figures with names of one level."""
    return {f"{name}/{key}": value for name, of in figures.items() for key, value in of.items()}
