"""Trains a model of pictures that is told words, a picture, or both."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor

from pipelines.core import images
from pipelines.diffusion.denoisers import Cfg, Predictor, denoiser
from pipelines.diffusion.unets import WordsUNet2DModel
from pipelines.models.clip_folder import Clip
from pipelines.models.word_features import Reader
from training.core import captions, told
from training.core.backgrounds import composited, hue_rotated
from training.pictures.data import Pictures
from training.pictures.recipe import Recipe
from training.pictures.trainer import Trainer
from training.words.collages import MAX_PARTS, draw_collage, pasted
from training.words.collages import told as told_of_collage
from training.words.conditions import draw_chance, other_crops, told_picture, told_words

SAMPLE_CFG = 4.0
_OPAQUE = 250  # of 255, the least alpha of a picture without a ground


@dataclass(frozen=True)
class _Drawn:
    """Pictures of a step before they stand on their grounds.

    Attributes:
        pixels: `(b, 3 or 4, h, w)` uint8, hue-rotated.
        texts: a sentence on each; empty if nothing is known.
    """

    pixels: Tensor
    texts: list[str]


class WordsTrainer(Trainer):
    """Trains a network that is conditional on words, on a picture's embedding, or on both.

    Each condition is dropped at random, so that one network can do with any of them and with none.

    Attributes:
        reader: makes the network's inputs.
        folder: of the run, where its copy of the CLIP lies.
        num_told: pictures of which something is known that can be told.

    Raises:
        ValueError: if nothing is known of any, and words are the only condition.
    """

    def __init__(
        self,
        recipe: Recipe,
        unet: WordsUNet2DModel,
        scheduler: DDPMScheduler,
        data: Pictures,
        accelerator: Accelerator,
        clip: Clip,
        folder: Path,
    ):
        self.reader, self.folder = Reader(clip, recipe.features), folder
        unet.register_to_config(features=recipe.features, conditions=recipe.conditions)
        super().__init__(recipe, unet, scheduler, data, accelerator)
        self._weights = _weights(self.train, recipe) if recipe.balanced else None
        self.num_told = sum(map(bool, data.told(torch.arange(len(data)))))
        if recipe.conditions == ("words",) and not self.num_told:
            raise ValueError(
                "dataset_name must have captions, names, titles or classes for the condition "
                f"words, got {recipe.dataset_name!r} with none"
            )

    def describe_data(self) -> str:
        return self._data.fingerprint(with_facts=True)

    def _parameter_groups(self, unet: UNet2DModel, recipe: Recipe) -> list[dict[str, Any]]:
        assert isinstance(unet, WordsUNet2DModel)
        new = unet.new_parameters()
        groups: list[dict[str, Any]] = [{"params": new, "factor": recipe.new_lr_factor}]
        numbers = {id(weights) for weights in new}
        begun = [weights for weights in unet.parameters() if id(weights) not in numbers]
        if recipe.frozen:
            for weights in begun:
                weights.requires_grad_(False)
            return groups
        return [{"params": begun}, *groups]

    def _chosen(self, generator: torch.Generator) -> Tensor:
        if self._weights is None:
            return super()._chosen(generator)
        return self._by_weight(self.recipe.pictures_per_step, generator)

    def _by_weight(self, count: int, generator: torch.Generator) -> Tensor:
        weights = self._weights if self._weights is not None else torch.ones(len(self.train))
        return torch.multinomial(weights, count, replacement=True, generator=generator)

    def _shown(
        self, slots: Tensor, indices: Tensor, backgrounds: Tensor, turns: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        recipe = self.recipe
        generator = torch.Generator().manual_seed((recipe.seed * 1_000_003 + self.step) * 31 + 7)
        chance = draw_chance(recipe.pictures_per_step, self.reader.dim, generator)
        others = self._by_weight(recipe.pictures_per_step * MAX_PARTS, generator)
        others = others.view(-1, MAX_PARTS)[slots]
        chance = chance.select(slots)
        drawn = self._drawn(slots, indices, others, backgrounds, turns)
        x0 = self._on_grounds(drawn.pixels, backgrounds)
        known = torch.tensor([bool(text) for text in drawn.texts])
        read = told_words(chance.lots, recipe.conditions, known=known).tolist()
        texts = [text if is_read else "" for text, is_read in zip(drawn.texts, read, strict=True)]
        if "picture" not in recipe.conditions:
            return x0, self.reader.inputs(texts)
        seen = told_picture(chance.lots, recipe.conditions).to(self.device)
        chance = chance.to(self.device)
        pictures = other_crops(self.reader, x0, chance) * seen[:, None]
        return x0, self.reader.inputs(texts, pictures, chance.distrust * seen)

    def _on_grounds(self, pixels: Tensor, backgrounds: Tensor) -> Tensor:
        """Returns `(b, c, h, w)` in [-1, 1]."""
        pixels = pixels.to(self.device)
        if self.recipe.grounds == "white":
            return images.from_uint8(pixels)
        return composited(pixels, backgrounds.to(self.device))

    def _drawn(
        self, slots: Tensor, indices: Tensor, others: Tensor, backgrounds: Tensor, turns: Tensor
    ) -> _Drawn:
        """The pictures of some slots, a part of them collages, with a sentence on each.

        Args:
            slots: `(b,)` int64.
            indices: the pictures' numbers, `(b,)` int64.
            others: those of further parts of collages, `(b, MAX_PARTS)` int64.
            backgrounds: `(b, 3, 1, 1)` in [-1, 1].
            turns: of the hues, `(b,)`.
        """
        seed = self.recipe.seed * 1_000_003 + self.step
        chances = [random.Random(seed * 65_537 + slot) for slot in slots.tolist()]
        pixels = _turned(self.train.take(indices), turns)
        facts = list(map(told.read, self.train.told(indices)))
        colors = captions.dominant_colors_of(pixels)
        grounds = self._grounds(pixels, backgrounds)
        texts = [
            told.sentence(*example)
            for example in zip(facts, colors, grounds, (turns > 0).tolist(), chances, strict=True)
        ]
        for row, chance in enumerate(chances):
            if chance.random() < self.recipe.collages:
                pixels[row], texts[row] = self._collage(others[row], grounds[row], chance)
        return _Drawn(pixels, texts)

    def _grounds(self, pixels: Tensor, backgrounds: Tensor) -> list[str]:
        """Names the colour that is seen behind each picture; empty where nothing is."""
        if pixels.shape[1] == 3:
            return [""] * len(pixels)
        hidden = (pixels[:, 3].flatten(1) >= _OPAQUE).float().mean(dim=1) > 0.9
        colors = images.to_uint8(backgrounds).expand(-1, -1, 2, 2)
        named = captions.dominant_colors_of(colors)
        pairs = zip(named, hidden.tolist(), strict=True)
        return ["" if is_hidden else names[0] for names, is_hidden in pairs]

    def _collage(self, others: Tensor, ground: str, chance: random.Random) -> tuple[Tensor, str]:
        """Returns several emoji in one picture `(4, h, w)` uint8, and a sentence on them."""
        collage = draw_collage(chance)
        count = len(collage.boxes)
        chosen = others[:1].repeat(count) if collage.same else others[:count]
        turns = torch.tensor([chance.random() if chance.random() < 0.3 else 0.0] * count)
        turns = torch.where(turns > 0, self.train.allowed_turns(chosen, turns), turns)
        parts = _turned(self.train.take(chosen), turns)
        facts = map(told.read, self.train.told(chosen))
        colors = captions.dominant_colors_of(parts)
        phrases = [
            told.phrase(fact, color, turned, chance)
            for fact, color, turned in zip(facts, colors, (turns > 0).tolist(), strict=True)
        ]
        said = told_of_collage(collage, phrases)
        if ground and chance.random() < told.GROUND_SHARE:
            said += f" on a {ground} background"
        return pasted(list(parts), collage.boxes), said

    def inputs_for(self, rows: Tensor) -> Mapping[str, Tensor]:
        return self.reader.inputs(self._held_out_texts(rows), self._held_out_pictures(rows))

    def _held_out_pictures(self, rows: Tensor) -> Tensor | None:
        """Embeddings of held-out pictures `(b, d)`, where the model is told no words."""
        if "words" in self.recipe.conditions or not len(self.validation):
            return None
        pixels = self.validation.take(rows.cpu() % len(self.validation))
        return self.reader.embedded(self._on_grounds(pixels, torch.ones(len(rows), 3, 1, 1)))

    def _held_out_texts(self, rows: Tensor) -> list[str]:
        """One sentence on each held-out picture, the same every time; empty without words."""
        if "words" not in self.recipe.conditions or not len(self.validation):
            return [""] * len(rows)
        rows = rows.cpu() % len(self.validation)
        facts = map(told.read, self.validation.told(rows))
        colors = captions.dominant_colors_of(self.validation.take(rows))
        return [
            told.sentence(fact, color, "", False, random.Random(row))
            for fact, color, row in zip(facts, colors, rows.tolist(), strict=True)
        ]

    def predictor(self, unet: UNet2DModel, numbers: Tensor) -> Predictor:
        texts, pictures = self._held_out_texts(numbers), self._held_out_pictures(numbers)
        return denoiser(unet, self.reader.condition(texts, pictures), Cfg(SAMPLE_CFG))


def _turned(pixels: Tensor, turns: Tensor) -> Tensor:
    """Pictures `(b, 3 or 4, h, w)` uint8; transparent ones with their hues turned."""
    if pixels.shape[1] == 3 or not turns.any():
        return pixels
    return hue_rotated(pixels, turns)


def _weights(data: Pictures, recipe: Recipe) -> Tensor:
    """How often each picture is drawn, `(n,)`: each name equally often, those in focus more."""
    names = [told.name_of(told.read(facts)) for facts in data.told(torch.arange(len(data)))]
    counted: dict[str, int] = {}
    for name in names:
        counted[name] = counted.get(name, 0) + 1
    weights = torch.tensor([1 / counted[name] if name else 1.0 for name in names])
    focused = data.focused
    if recipe.focus:
        weights[focused] *= recipe.focus_share / weights[focused].sum()
        weights[~focused] *= (1 - recipe.focus_share) / weights[~focused].sum()
    return weights
