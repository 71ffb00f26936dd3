"""CLIP text guidance: settings to a stream of guided pictures, each beside the unguided one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pipelines.core import devices, images
from pipelines.core.rules import prompt_entries, validate
from pipelines.diffusion import losses
from pipelines.diffusion.noise import seeded, spawn
from pipelines.diffusion.views import VIEWS, random_views
from pipelines.models import checkpoints, clip, zero_shot
from pipelines.models.clip import Clip
from pipelines.products import guided
from pipelines.products.settings import TextSettings, method_of
from pipelines.runs import comparison, seed_search
from pipelines.runs.history import History
from pipelines.runs.run import Run
from pipelines.runs.timing import Work

_VIEWS_STREAM = 1  # of random numbers, apart from that of the noise


@dataclass(frozen=True)
class Preview(comparison.Preview):
    """The state of a run after one step.

    Attributes:
        clip_revision: of the CLIP's weights.
        losses: per guided step, one value per image: distance of its crops to the prompt.
        similarities: per step, one value per image, see `similarity`.
        unguided_similarities: the same without guidance; empty where that is not drawn.
        unseen_words: words of the prompts that the CLIP never saw in training.
        seeds: of the pictures; while several are tried for each, of the best so far.
        seconds_tried: that went by before the first step, while seeds were tried.
    """

    clip_revision: str
    losses: list[list[float]]
    similarities: list[list[float]]
    unguided_similarities: list[list[float]]
    unseen_words: list[str]
    seeds: list[int] = field(default_factory=list)
    seconds_tried: float = 0.0

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return self.seconds_tried + self.times[-1]

    @property
    def score_before(self) -> list[float]:
        """How near each unguided picture is to the prompt, see `similarity`; or nothing."""
        return self.unguided_similarities[-1] if self.unguided_similarities else []

    @property
    def score_after(self) -> list[float]:
        """The same per guided picture."""
        return self.similarities[-1]


@dataclass(frozen=True)
class Target:
    """What a picture should be like.

    Attributes:
        embeddings: `(p, d)`, of length 1, of sentences and pictures.
        weights: `(p,)`; below 0 is what it should not be like.
    """

    embeddings: Tensor
    weights: Tensor

    def similarity(self, pictures: Tensor) -> Tensor:
        """How near embeddings `(b, d)` of pictures are, `(b,)`: see `similarity` below."""
        cosines = pictures @ self.embeddings.T  # (b, p)
        return cosines @ self.weights / self.weights.abs().sum()


def target_of(settings: TextSettings, model: Clip) -> Target:
    """The prompts as the CLIP reads them.

    Raises:
        SettingsError: if a sentence is longer than it can read.
    """
    embeddings, weights = [], []
    for name, sign in (("prompt", 1), ("negative_prompt", -1)):
        for text, weight in prompt_entries(getattr(settings, name)):
            embeddings.append(clip.encode_text(model, text, name))
            weights.append(sign * weight)
    if settings.image_prompt and settings.image_weight:
        pixels = images.to_tensor(images.from_data_uri(settings.image_prompt))  # (1, 3, h, w)
        with devices.device_lock(model.device), torch.no_grad():
            embeddings.append(clip.encode_images(model, pixels.to(model.device))[0])
        weights.append(settings.image_weight)
    stacked = torch.stack(embeddings)
    return Target(stacked, torch.tensor(weights).to(stacked))


def similarity(model: Clip, target: Target, x0: Tensor) -> Tensor:
    """How near pictures `(b, 3, h, w)` are to a target, `(b,)`, from -1 to 1.

    The weighted mean of the cosines; what a picture should not be like counts against it.
    """
    with devices.device_lock(model.device), torch.no_grad():
        return target.similarity(clip.encode_images(model, x0))


def fit_of(settings: TextSettings, model: Clip, target: Target) -> Callable[[Tensor], Tensor]:
    """What seeds are chosen by: `x0` `(b, 3, h, w)` to how well each fits, `(b,)`.

    With words, how sure the CLIP is of them, and not of something else; with a picture alone, or
    words from which it tells nothing else apart, how near it is.
    """
    prompts = [text for text, _ in prompt_entries(settings.prompt)]
    others = zero_shot.others(model, prompts) if prompts else target.embeddings[:0]
    if not len(others):
        return lambda x0: similarity(model, target, x0)

    def fit(x0: Tensor) -> Tensor:
        with devices.device_lock(model.device), torch.no_grad():
            seen = clip.encode_images(model, x0)  # (b, d)
            return zero_shot.log_odds(model, target.similarity(seen), seen @ others.T)

    return fit


def look_of(
    settings: TextSettings, model: Clip, generators: Sequence[torch.Generator]
) -> Callable[[Tensor], Tensor]:
    """`x0` to embeddings of random crops, `(k, b, d)`."""
    method = method_of(settings)
    views = replace(method.views or VIEWS, count=settings.cutouts)

    def look(x0: Tensor) -> Tensor:
        crops = random_views(x0, views, model.size_px, generators)  # (k, b, 3, s, s)
        seen = 2 * crops - 1 if method.shows_signed_range else crops
        return clip.encode_images(model, seen.flatten(0, 1)).unflatten(0, crops.shape[:2])

    return look


def terms_of(
    settings: TextSettings, model: Clip, target: Target, seeds: Sequence[int]
) -> list[losses.Term]:
    """What the pictures of some seeds are pulled towards; the colour has the last word."""
    generators = [spawn(generator, _VIEWS_STREAM) for generator in seeded(seeds)]
    look = look_of(settings, model, generators)
    words = losses.EmbeddingDistance(look, target.embeddings, target.weights)
    terms = [losses.Term(words)]
    if settings.color:
        color = losses.MeanColor(images.color_to_tensor(settings.color))
        terms.append(losses.Term(color, settings.color_weight))
    return terms


def unseen_words(settings: TextSettings, model: Clip) -> list[str]:
    """Words of the prompts that the CLIP never saw in training."""
    entries = prompt_entries(settings.prompt) + prompt_entries(settings.negative_prompt)
    return clip.unseen_words(model, " ".join(text for text, _ in entries))


def load(settings: TextSettings) -> None:
    """Loads what a run needs, and fetches what is not here yet.

    Raises:
        CheckpointError: if it cannot be had.
    """
    checkpoints.load(settings.model)
    clip.load(settings.clip_model)


def work(settings: TextSettings) -> Work:
    """What a run of checked settings will compute, to tell how long it takes."""
    looks = f"{settings.cutouts} cutouts, every {settings.every}"
    kind = ("text", settings.model, settings.method, settings.clip_model, looks)
    towards = [losses.Term(losses.Symmetry())]
    return guided.work_of(settings, kind, towards, settings.tries)


def generate(settings: TextSettings, *, compare: bool = True) -> Iterator[Preview]:
    """Draws guided and unguided pictures of the same seeds, yielding once per step.

    Args:
        settings: of the run.
        compare: whether the unguided pictures are drawn too.

    Raises:
        ValueError: if a setting is wrong, or a sentence too long; raised at once.
        CheckpointError: if a checkpoint cannot be loaded; likewise.
    """
    settings = validate(settings)
    loaded, model = checkpoints.load(settings.model), clip.load(settings.clip_model)
    return _generate(settings, loaded, model, target_of(settings, model), compare)


def run_of(
    settings: TextSettings,
    loaded: checkpoints.Loaded,
    model: Clip,
    target: Target,
    seeds: Sequence[int],
) -> Run:
    """A run of some seeds, ready to draw; settings as checked."""
    return guided.run_of(settings, loaded, terms_of(settings, model, target, seeds), seeds)


def try_seeds(
    settings: TextSettings, loaded: checkpoints.Loaded, model: Clip, target: Target
) -> Iterator[seed_search.Found]:
    """The search for the seeds whose pictures fit best early on, see `search.search`."""
    return seed_search.search(
        lambda seeds: run_of(settings, loaded, model, target, seeds).steps(),
        fit_of(settings, model, target),
        seed_search.candidates(settings.seed, settings.num_images, settings.tries),
        settings.num_inference_steps,
    )


def _trying(
    tried: seed_search.Found,
    settings: TextSettings,
    loaded: checkpoints.Loaded,
    model: Clip,
    target: Target,
    unseen: list[str],
    compare: bool,
    seconds: float,
) -> Preview:
    """What there is to show while seeds are tried: nothing to compare with as yet."""
    pictures = images.to_pil(tried.x0)
    return Preview(
        pictures=pictures,
        unguided=pictures if compare else [],
        step=0,
        total_steps=settings.num_inference_steps,
        times=[0.0],
        settings=settings,
        model=loaded.checkpoint.key,
        revision=loaded.revision,
        failed_steps=[],
        history=History(),
        clip_revision=model.revision,
        losses=[],
        similarities=[similarity(model, target, tried.x0).tolist()],
        unguided_similarities=[],
        unseen_words=unseen,
        seeds=tried.seeds,
        seconds_tried=seconds,
    )


def _generate(
    settings: TextSettings,
    loaded: checkpoints.Loaded,
    model: Clip,
    target: Target,
    compare: bool,
) -> Iterator[Preview]:
    began, unseen = time.monotonic(), unseen_words(settings, model)
    seeds, seconds_tried = guided.seeds_of(settings), 0.0
    if settings.tries > 1:
        for tried in try_seeds(settings, loaded, model, target):
            seeds, seconds_tried = tuple(tried.seeds), time.monotonic() - began
            yield _trying(tried, settings, loaded, model, target, unseen, compare, seconds_tried)
    losses_so_far: list[list[float]] = []
    similar: list[list[float]] = []
    unguided_similar: list[list[float]] = []
    run = run_of(settings, loaded, model, target, seeds)
    for step, unguided, preview in comparison.compared(run, settings, compare=compare):
        if step.loss is not None:
            losses_so_far.append(step.loss.tolist())
        pictures = [step.preview] if unguided is None else [step.preview, unguided.x0]
        scores = similarity(model, target, torch.cat(pictures)).tolist()
        similar.append(scores[: settings.num_images])
        if unguided is not None:
            unguided_similar.append(scores[settings.num_images :])
        yield Preview(
            **vars(preview),
            clip_revision=model.revision,
            losses=list(losses_so_far),
            similarities=list(similar),
            unguided_similarities=list(unguided_similar),
            unseen_words=unseen,
            seeds=list(seeds),
            seconds_tried=seconds_tried,
        )
