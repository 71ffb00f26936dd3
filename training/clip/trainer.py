"""One training run of a small CLIP: its recipe, its steps, how it is judged."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from open_clip import CLIP, SimpleTokenizer
from torch import Tensor

from pipelines.core import images
from pipelines.core.rules import MAX_SEED, Choice, Real, Whole
from training.clip import adversarial
from training.clip.degrade import degraded
from training.clip.pairs import Pairs
from training.core import loop
from training.core.loop import MAX_GRADIENT_NORM, device_in_words
from training.pictures.recipe import Precision

Architecture = Literal["resnet", "regnet"]

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
IMAGE_PX = 64
CONTEXT_LENGTH = 32
EMBED_DIM = 256
ADAM_BETAS = (0.9, 0.98)
WEIGHT_DECAY = 0.1
MAX_LOGIT_SCALE = 100.0
HALF_FORMED_SHARE = 0.3  # of the pictures
FOCUS_SHARE = 0.6  # of the steps whose pairs are all of one data set
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

VISION: dict[str, dict[str, Any]] = {
    "resnet": {"layers": [2, 2, 2, 2], "width": 32, "head_width": 64, "image_size": IMAGE_PX},
    "regnet": {
        "timm_model_name": "regnetx_002",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": IMAGE_PX,
    },
}
TEXT: dict[str, dict[str, Any]] = {
    "resnet": {"width": 256, "heads": 4, "layers": 4},
    "regnet": {"width": 96, "heads": 4, "layers": 3},
}

_RULES = {
    "architecture": Choice(get_args(Architecture)),
    "max_steps": Whole(1, 10_000_000),
    "batch_size": Whole(2, 65_536),
    "lr": Real(1e-8, 1.0),
    "warmup_steps": Whole(0, 10_000_000),
    "ema_decay": Real(0.0, 1.0),
    "mixed_precision": Choice(get_args(Precision)),
    "seed": Whole(0, MAX_SEED),
    "same_source_share": Real(0.0, 1.0),
    "adversarial_radius": Real(0.0, 100.0),
}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights; saved with them.

    Attributes:
        architecture: of the towers.
        datasets: names of the data sets, in order.
        half_formed: checkpoints, by commas, whose half-formed pictures are learned from too: a data
            set is formed by that of its name, or by the first; empty is none.
        max_steps: optimizer steps.
        batch_size: pairs per step; each is a wrong answer to all the others.
        lr: peak learning rate of AdamW.
        warmup_steps: steps to reach it.
        ema_decay: of the averaged weights that are saved.
        mixed_precision: arithmetic of the passes.
        seed: of everything random.
        start_model: bundled CLIP or folder to go on from; empty is new weights.
        same_source_share: share of steps whose pairs are all of one data set, and so harder to
            tell apart.
        focus: data sets, by commas, that most of those steps are of; empty is each by its size.
        adversarial_radius: how far pictures are moved at most to where they are misread, see
            `adversarial`: Euclidean, of pictures in [-1, 1]; 0 is off.

    Raises:
        ValueError: one sentence on the first value that is wrong.
    """

    architecture: Architecture
    datasets: tuple[str, ...]
    half_formed: str
    max_steps: int
    batch_size: int
    lr: float
    warmup_steps: int
    ema_decay: float
    mixed_precision: Precision
    seed: int
    start_model: str = ""
    same_source_share: float = 0.0
    focus: str = ""
    adversarial_radius: float = 0.0

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            rule.check(name, getattr(self, name))
        for name in self.focused:
            Choice(self.datasets).check("focus", name)
        for name in self.formers[1:]:  # a former of no data set would form nothing
            Choice(self.datasets).check("half_formed_by", name)

    @property
    def formers(self) -> tuple[str, ...]:
        """The checkpoints of `half_formed`; the first is that of data sets without one."""
        return tuple(name.strip() for name in self.half_formed.split(",") if name.strip())

    @property
    def focused(self) -> tuple[str, ...]:
        """The data sets of `focus`."""
        return tuple(name.strip() for name in self.focus.split(",") if name.strip())

    def check_same(self, saved: Mapping[str, Any]) -> None:
        """Refuses to go on from a run of another recipe.

        Raises:
            ValueError: naming what differs.
        """
        mine = asdict(self)
        saved = {"focus": "", "adversarial_radius": 0.0, **saved}  # which older runs do not tell
        loop.refuse_another([f.name for f in fields(self) if saved.get(f.name) != mine[f.name]])


def model_config(architecture: Architecture, vocab_size: int) -> dict[str, Any]:
    """What open_clip calls `model_cfg`."""
    text = {**TEXT[architecture], "context_length": CONTEXT_LENGTH, "vocab_size": vocab_size}
    return {"embed_dim": EMBED_DIM, "vision_cfg": VISION[architecture], "text_cfg": text}


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor, names: Tensor) -> Tensor:
    """CLIP's loss (Radford et al. 2021, arXiv:2103.00020), `()`.

    Pictures that are called the same are right answers to one another, not wrong ones.

    Args:
        image: `(b, d)`, of length 1.
        text: `(b, d)`, of length 1.
        scale: `()`, by which similarities are multiplied.
        names: `(b,)` int64, equal where the sentences are.
    """
    logits = scale * image @ text.T  # (b, b)
    same = (names[:, None] == names[None, :]).to(logits)
    wanted = same / same.sum(dim=1, keepdim=True)
    rows, columns = F.cross_entropy(logits, wanted), F.cross_entropy(logits.T, wanted)
    return (rows + columns) / 2


@dataclass(frozen=True)
class Start:
    """What a run goes on from.

    Attributes:
        weights: of all of the model.
        earlier: facts of the runs that made them, the first first.
    """

    weights: Mapping[str, Tensor]
    earlier: list[dict[str, Any]]


class Trainer:
    """One run: towers, averaged weights, optimizer, and the step it is at.

    Attributes:
        recipe: what decides the weights.
        step: optimizer steps done.
        seconds: spent in them, over all restarts.
        trained_on: the device the run began on, in words.
        vocabulary: the folder that the tokenizer's files are in.
        earlier: facts of the runs that it went on from, the first first.
        blended: what `blend` mixed in; empty is nothing.
    """

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
        self.accelerator, self.device = accelerator, accelerator.device
        self.recipe, self.data = recipe, data.to(self.device)
        self.half_formed = None if half_formed is None else half_formed.to(self.device)
        self.trained_on = device_in_words(accelerator)
        self.tokenizer, self.vocabulary = tokenizer, vocabulary
        self._tokens, self._first, self._names = tokenized(data.sentences, tokenizer)
        torch.manual_seed(recipe.seed)
        self.config = model_config(recipe.architecture, tokenizer.vocab_size)
        made: Any = CLIP(**deepcopy(self.config))
        model: CLIP = made.to(self.device, memory_format=torch.channels_last)
        self.earlier = start.earlier if start else []
        if start:
            model.load_state_dict(start.weights)
        self._sources = _sources(data.origins, recipe.batch_size)
        self._chances = _chances(self._sources, recipe.focused)
        self._averaged = deepcopy(model).eval().requires_grad_(False)
        self.ema = EMAModel(model.parameters(), decay=recipe.ema_decay, foreach=True)
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(model), lr=recipe.lr, betas=ADAM_BETAS, fused=True
        )
        self.model = model.train()
        self.step, self.seconds = 0, 0.0
        self.blended: dict[str, Any] = {}

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as plain data and tensors."""
        return {
            "recipe": asdict(self.recipe),
            "step": self.step,
            "seconds": self.seconds,
            "trained_on": self.trained_on,
            "earlier": self.earlier,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a saved state.

        Raises:
            ValueError: if that state belongs to another recipe.
        """
        self.recipe.check_same(state["recipe"])
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.ema.to(self.device)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.trained_on = state["trained_on"]
        self.earlier = state.get("earlier", [])

    def train_step(self) -> float:
        """One optimizer step; returns the loss.

        Raises:
            FloatingPointError: if the loss or its gradient is not finite; no weight has changed.
        """
        began = time.monotonic()
        loop.set_learning_rate(self.optimizer, self.step, self.recipe)
        x0, tokens, names, radii = self._batch()
        with self.accelerator.autocast():
            text = encode_text(self.model, tokens)
        if self.recipe.adversarial_radius:
            x0 = self._misread(x0, text.detach(), names, radii)
        loss = self._loss(x0, text, names)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        loop.check_finite(loss.item(), float(norm), step=self.step + 1, scaled=False)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            self.model.logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))
        self.ema.step(self.model.parameters())
        self.step += 1
        self.seconds += time.monotonic() - began
        return loss.item()

    def _loss(self, x0: Tensor, text: Tensor, names: Tensor) -> Tensor:
        """Of pictures `(b, 3, h, w)` in [-1, 1] and what was made of their sentences, `()`."""
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
        """`(x0, tokens, names, radii)` of this step; everything random comes from its number."""
        recipe, generator = self.recipe, loop.step_generator(self.recipe.seed, self.step)
        count = recipe.batch_size
        chosen = self._chosen(generator)
        firsts, ends = self._first[chosen], self._first[chosen + 1]
        lots = torch.rand(count, generator=generator)
        sentences = firsts + (lots * (ends - firsts)).long()
        x0 = self.data.on_grounds(chosen, generator)
        if self.half_formed is not None:
            swapped = torch.rand(count, generator=generator) < HALF_FORMED_SHARE
            formed = images.from_uint8(self.half_formed[chosen.to(self.device)])
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
        return loop.batch_indices(len(self.data), recipe.batch_size, recipe.seed, self.step)

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

    def averaged(self) -> CLIP:
        """The model with the averaged weights, for use and not for training."""
        self.ema.copy_to(self._averaged.parameters())
        for mine, live in zip(self._averaged.buffers(), self.model.buffers(), strict=True):
            mine.copy_(live)
        return self._averaged


def encode_text(model: Any, tokens: Tensor) -> Tensor:
    """Sentences `(b, l)` to what `model.encode_text` makes of them, `(b, d)` of length 1.

    Most sentences are short and no token looks at a later one, so what follows the end of the
    longest is left out.

    Args:
        model: a `CLIP` of open_clip.
        tokens: `(b, l)` int64.
    """
    length = int(tokens.argmax(dim=-1).max()) + 1  # the end is the largest token
    mask = model.attn_mask
    kept = None if mask is None else mask[:length, :length]
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=kept))  # (b, l, w)
    ends = x[torch.arange(len(x), device=x.device), tokens.argmax(dim=-1)]
    return F.normalize(ends @ model.text_projection, dim=-1)


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


def tokenized(
    sentences: Sequence[Sequence[str]], tokenizer: SimpleTokenizer
) -> tuple[Tensor, Tensor, Tensor]:
    """All sentences one after the other: tokens `(m, l)`, where each picture's begin `(n + 1,)`,
    and a number for each different sentence `(m,)`."""
    flat = [text for texts in sentences for text in texts]
    counts = torch.tensor([0, *(len(texts) for texts in sentences)])
    numbers = {text: number for number, text in enumerate(dict.fromkeys(flat))}
    tokens = tokenizer(flat, context_length=CONTEXT_LENGTH).to(torch.int32)
    return tokens, counts.cumsum(0), torch.tensor([numbers[text] for text in flat])


def to_input(x0: Tensor) -> Tensor:
    """Pictures `(b, 3, h, w)` in [-1, 1] to what the model takes."""
    mean, std = (torch.tensor(v, device=x0.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return ((x0 + 1) / 2 - mean) / std


def centred(pixels: Tensor) -> Tensor:
    """`(n, 3, h, w)` uint8 to `(n, 3, IMAGE_PX, IMAGE_PX)` in [-1, 1]."""
    return F.interpolate(images.from_uint8(pixels), size=IMAGE_PX, mode="area")


def _parameter_groups(model: CLIP) -> list[dict[str, Any]]:
    """Gains, biases and the scale are not decayed."""
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return [
        {"params": decayed, "weight_decay": WEIGHT_DECAY},
        {"params": others, "weight_decay": 0.0},
    ]
