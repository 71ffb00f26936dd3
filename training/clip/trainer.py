"""Trains a small CLIP: which pairs a step has, and what it makes of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from open_clip import CLIP, SimpleTokenizer
from torch import Tensor

from pipelines.core import images
from training.clip import adversarial
from training.clip.degrade import degraded
from training.clip.pairs import Pairs
from training.clip.recipe import Recipe
from training.clip.towers import (
    IMAGE_PX,
    MAX_LOGIT_SCALE,
    contrastive_loss,
    encode_text,
    model_config,
    to_input,
    tokenized,
)
from training.core.batches import batch_indices, step_generator
from training.core.fingerprint import fingerprint
from training.core.trainer import BaseTrainer

ADAM_BETAS = (0.9, 0.98)
WEIGHT_DECAY = 0.1
HALF_FORMED_SHARE = 0.3  # of the pictures
FOCUS_SHARE = 0.6  # of the steps whose pairs are all of one data set


@dataclass(frozen=True)
class Start:
    """What a run goes on from.

    Attributes:
        weights: of all of the model.
        earlier: facts of the runs that made them, the first first.
    """

    weights: Mapping[str, Tensor]
    earlier: list[dict[str, Any]]


class Trainer(BaseTrainer[Recipe, CLIP]):
    """Trains both towers.

    Attributes:
        vocabulary: the folder that the tokenizer's files are in.
        earlier: facts of the runs that it went on from, the first first.
        blended: what `blend` mixed in; empty is nothing.
    """

    weights_key = "model"

    def __init__(
        self,
        recipe: Recipe,
        data: Pairs,
        half_formed: Tensor | None,
        tokenizer: SimpleTokenizer,
        vocabulary: Path,
        accelerator: Accelerator,
        start: Start | None = None,
    ):
        device = accelerator.device
        self.data = data.to(device)
        self.half_formed = None if half_formed is None else half_formed.to(device)
        self.tokenizer, self.vocabulary = tokenizer, vocabulary
        self._tokens, self._first, self._names = tokenized(data.sentences, tokenizer)
        torch.manual_seed(recipe.seed)
        self.config = model_config(recipe.architecture, tokenizer.vocab_size)
        made: Any = CLIP(**deepcopy(self.config))
        model: CLIP = made.to(device, memory_format=torch.channels_last)
        self.earlier = start.earlier if start else []
        if start:
            model.load_state_dict(start.weights)
        self._sources = _sources(data.origins, recipe.batch_size)
        self._chances = _chances(self._sources, recipe.focused)
        self.blended: dict[str, Any] = {}
        optimizer = torch.optim.AdamW(
            _parameter_groups(model), lr=recipe.lr, betas=ADAM_BETAS, fused=True
        )
        super().__init__(recipe, model.train(), optimizer, accelerator)

    @property
    def model(self) -> CLIP:
        """The towers that are trained."""
        return self.network

    def describe_data(self) -> str:
        data = self.data
        alpha = () if data.alpha is None else (data.alpha,)
        texts = map("\n".join, data.sentences)
        return fingerprint(len(data), data.pixels, *alpha, *texts)

    def extra_state(self) -> dict[str, Any]:
        return {"earlier": self.earlier}

    def restore_extra(self, state: Mapping[str, Any]) -> None:
        self.earlier = state.get("earlier", [])

    def pass_loss(self, number: int) -> Tensor:
        x0, tokens, names, radii = self._batch()
        with self.accelerator.autocast():
            text = encode_text(self.model, tokens)
        if self.recipe.adversarial_radius:
            x0 = self._misread(x0, text.detach(), names, radii)
        return self._loss(x0, text, names)

    @torch.no_grad()
    def after_step(self) -> None:
        self.model.logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))

    def _loss(self, x0: Tensor, text: Tensor, names: Tensor) -> Tensor:
        """Returns the loss `()` of pictures `(b, 3, h, w)` in [-1, 1] and embedded sentences."""
        with self.accelerator.autocast():
            image = self.model.encode_image(to_input(x0), normalize=True)
        return contrastive_loss(image.float(), text.float(), self.model.logit_scale.exp(), names)

    def _misread(self, x0: Tensor, text: Tensor, names: Tensor, radii: Tensor) -> Tensor:
        """The pictures a little changed, as the towers read them worst when they are in use."""
        self.model.visual.eval()
        moved = adversarial.worst_within(x0, lambda x: self._loss(x, text, names), radii)
        self.model.visual.train()
        return moved

    def _batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns `(x0, tokens, names, radii)` of this step."""
        recipe, generator = self.recipe, step_generator(self.recipe.seed, self.step)
        count = recipe.batch_size
        indices = self._chosen(generator)
        firsts, ends = self._first[indices], self._first[indices + 1]
        lots = torch.rand(count, generator=generator)
        sentences = firsts + (lots * (ends - firsts)).long()
        x0 = self.data.on_backgrounds(indices, generator)
        if self.half_formed is not None:
            swapped = torch.rand(count, generator=generator) < HALF_FORMED_SHARE
            formed = images.from_uint8(self.half_formed[indices.to(self.device)])
            x0 = torch.where(swapped.to(self.device).view(-1, 1, 1, 1), formed, x0)
        x0 = degraded(x0, IMAGE_PX, generator)
        radii = recipe.adversarial_radius * torch.rand(count, generator=generator)
        tokens = self._tokens[sentences].long().to(self.device)
        names = self._names[sentences].to(self.device)
        return x0, tokens, names, radii.to(self.device)

    def _chosen(self, generator: torch.Generator) -> Tensor:
        """Numbers of the pairs of this step, `(batch_size,)`: of all data or of one data set."""
        recipe = self.recipe
        alone = recipe.same_source_share > 0 and self._sources
        if alone and float(torch.rand((), generator=generator)) < recipe.same_source_share:
            one = int(torch.multinomial(self._chances, 1, generator=generator))
            rows = [*self._sources.values()][one]
            return rows[torch.randperm(len(rows), generator=generator)[: recipe.batch_size]]
        return batch_indices(len(self.data), recipe.batch_size, recipe.seed, self.step)

    @torch.no_grad()
    def blend(self, weights: Mapping[str, Tensor], share: float, name: str) -> None:
        """Mixes the weights of a model that this one went on from into what is saved.

        What was learned last is kept for the most part, and less of what was known before is lost
        (Wortsman et al. 2022, arXiv:2109.01903). The run cannot be trained on afterwards.

        Args:
            weights: of the earlier model, with the same towers.
            share: of them in the mixture, 0 to 1.
            name: of the earlier model, for the card.
        """
        names = [name for name, _ in self.model.named_parameters()]
        mixed = dict(zip(names, self.ema.shadow_params, strict=True))
        mixed |= {n: b for n, b in self.model.named_buffers() if b.is_floating_point()}
        for part, value in mixed.items():
            if part in weights:
                value.lerp_(weights[part].to(value), share)
        self.blended = {"name": name, "share": share}


def _sources(origins: Sequence[str], least: int) -> dict[str, Tensor]:
    """The numbers of the pairs of each data set that has enough of them for a step."""
    numbers: dict[str, list[int]] = {}
    for number, origin in enumerate(origins):
        numbers.setdefault(origin, []).append(number)
    return {name: torch.tensor(rows) for name, rows in numbers.items() if len(rows) >= least}


def _chances(sources: Mapping[str, Tensor], focused: Sequence[str]) -> Tensor:
    """How likely a step of one data set is of each, `(number of sources,)`."""
    sizes = {name: float(len(rows)) for name, rows in sources.items()}
    total = sum(size for name, size in sizes.items() if name in focused)
    others = sum(sizes.values()) - total
    if total and others:
        raised = others * FOCUS_SHARE / (1 - FOCUS_SHARE) / total
        sizes = {name: size * (raised if name in focused else 1) for name, size in sizes.items()}
    return torch.tensor([*sizes.values()])


def _parameter_groups(model: CLIP) -> list[dict[str, Any]]:
    """Gains, biases and the scale are not decayed."""
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return [
        {"params": decayed, "weight_decay": WEIGHT_DECAY},
        {"params": others, "weight_decay": 0.0},
    ]
