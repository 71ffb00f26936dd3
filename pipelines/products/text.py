"""CLIP text guidance: from settings to a stream of guided and unguided pictures."""

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

_VIEWS_STREAM = 1  # number of the random stream of the crops, apart from that of the noise
_VIEWS_AT_ONCE = 32  # that CLIP sees in one step of the seed search


@dataclass(frozen=True)
class Preview(comparison.Preview):
    """The state of a run after one step.

    Attributes:
        clip_revision: of the CLIP's weights.
        losses: per guided step, one value per image: distance of its crops to the prompt.
        similarities: per step, one value per image; see `similarity`.
        unguided_similarities: the same without guidance; empty without unguided pictures.
        unseen_words: words of the prompts that are not in the CLIP's training data.
        seeds: of the pictures; during the seed search, the best so far.
        seconds_tried: duration of the seed search before the first step.
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
        """Seconds since the run began, including the seed search."""
        return self.seconds_tried + self.times[-1]

    @property
    def score_before(self) -> list[float]:
        """The `similarity` of each unguided picture to the prompt; empty if none are drawn."""
        return self.unguided_similarities[-1] if self.unguided_similarities else []

    @property
    def score_after(self) -> list[float]:
        """The `similarity` of each guided picture to the prompt."""
        return self.similarities[-1]


@dataclass(frozen=True)
class Target:
    """The sentences and pictures that guidance compares a picture with.

    Attributes:
        embeddings: `(p, d)`, of length 1, of sentences and pictures.
        weights: `(p,)`; guidance moves away from those below 0.
    """

    embeddings: Tensor
    weights: Tensor

    def similarity(self, pictures: Tensor) -> Tensor:
        """Returns the similarity `(b,)` of embeddings `(b, d)`; see `similarity` below."""
        cosines = pictures @ self.embeddings.T  # (b, p)
        return cosines @ self.weights / self.weights.abs().sum()


def target_of(settings: TextSettings, model: Clip) -> Target:
    """Returns the embeddings and weights of all prompts.

    Raises:
        SettingsError: if a sentence is too long for the CLIP.
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
    """Returns the similarity of pictures `(b, 3, h, w)` to a target, `(b,)`, from -1 to 1.

    It is the weighted mean of the cosines; negative weights count against it.
    """
    with devices.device_lock(model.device), torch.no_grad():
        return target.similarity(clip.encode_images(model, x0))


def fit_of(settings: TextSettings, model: Clip, target: Target) -> Callable[[Tensor], Tensor]:
    """Returns the score of the seed search: `x0` `(b, 3, h, w)` to `(b,)`, higher is better.

    With words, it is the CLIP's log-odds of the target against other things. With only a picture,
    or if there are no other things, it is the similarity.
    """
    prompts = [text for text, _ in prompt_entries(settings.prompt)]
    others = zero_shot.others(model, prompts) if prompts else target.embeddings[:0]
    if not len(others):
        return lambda x0: similarity(model, target, x0)

    def fit(x0: Tensor) -> Tensor:
        with devices.device_lock(model.device), torch.no_grad():
            embeddings = clip.encode_images(model, x0)  # (b, d)
            return zero_shot.log_odds(model, target.similarity(embeddings), embeddings @ others.T)

    return fit


def embed_crops_of(
    settings: TextSettings, model: Clip, generators: Sequence[torch.Generator]
) -> Callable[[Tensor], Tensor]:
    """Returns a function of `x0` that gives the embeddings of random crops, `(k, b, d)`."""
    method = method_of(settings)
    views = replace(method.views or VIEWS, count=settings.cutouts)

    def embed_crops(x0: Tensor) -> Tensor:
        crops = random_views(x0, views, model.size_px, generators)  # (k, b, 3, s, s)
        inputs = 2 * crops - 1 if method.shows_signed_range else crops
        return clip.encode_images(model, inputs.flatten(0, 1)).unflatten(0, crops.shape[:2])

    return embed_crops


def terms_of(
    settings: TextSettings, model: Clip, target: Target, seeds: Sequence[int]
) -> list[losses.Term]:
    """Returns the loss terms of a run with the given seeds; the colour comes last."""
    generators = [spawn(generator, _VIEWS_STREAM) for generator in seeded(seeds)]
    embed_crops = embed_crops_of(settings, model, generators)
    words = losses.EmbeddingDistance(embed_crops, target.embeddings, target.weights)
    terms = [losses.Term(words)]
    if settings.color:
        color = losses.MeanColor(images.color_to_tensor(settings.color))
        terms.append(losses.Term(color, settings.color_weight))
    return terms


def unseen_words(settings: TextSettings, model: Clip) -> list[str]:
    """Returns the words of the prompts that are not in the CLIP's training data."""
    entries = prompt_entries(settings.prompt) + prompt_entries(settings.negative_prompt)
    return clip.unseen_words(model, " ".join(text for text, _ in entries))


def load(settings: TextSettings) -> None:
    """Loads the models of a run; fetches them first if needed.

    Raises:
        CheckpointError: if a model cannot be fetched or loaded.
    """
    checkpoints.load(settings.model)
    clip.load(settings.clip_model)


def work(settings: TextSettings, *, compare: bool = True) -> Work:
    """Returns the work of a run with checked settings, to estimate its time."""
    crops = f"{settings.cutouts} cutouts, every {settings.every}"
    kind = ("text", settings.model, settings.method, settings.clip_model, crops)
    any_terms = [losses.Term(losses.Symmetry())]  # the terms need the models; any others will do
    return guided.work_of(settings, kind, any_terms, settings.tries, compare=compare)


def generate(settings: TextSettings, *, compare: bool = True) -> Iterator[Preview]:
    """Draws guided and unguided pictures from the same seeds; yields once per step.

    Args:
        settings: of the run.
        compare: whether to draw the unguided pictures too.

    Raises:
        ValueError: if a setting is wrong, or a sentence too long; raised at once.
        CheckpointError: if a checkpoint cannot be loaded; raised at once too.
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
    """Returns a run with the given seeds, ready to draw; the settings must be checked."""
    return guided.run_of(settings, loaded, terms_of(settings, model, target, seeds), seeds)


def try_seeds(
    settings: TextSettings, loaded: checkpoints.Loaded, model: Clip, target: Target
) -> Iterator[seed_search.SearchState]:
    """Searches the seeds whose pictures fit best after the first steps; see `seed_search`."""
    return seed_search.search(
        lambda seeds: run_of(settings, loaded, model, target, seeds).steps(),
        fit_of(settings, model, target),
        seed_search.candidates(settings.seed, settings.num_images, settings.tries),
        settings.num_inference_steps,
        at_once=max(1, _VIEWS_AT_ONCE // settings.cutouts),
    )


def _search_preview(
    state: seed_search.SearchState,
    settings: TextSettings,
    loaded: checkpoints.Loaded,
    model: Clip,
    target: Target,
    unseen: list[str],
    compare: bool,
    seconds: float,
) -> Preview:
    """Returns a preview during the seed search; there are no unguided pictures yet."""
    pictures = images.to_pil(state.x0)
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
        similarities=[similarity(model, target, state.x0).tolist()],
        unguided_similarities=[],
        unseen_words=unseen,
        seeds=state.seeds,
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
        for state in try_seeds(settings, loaded, model, target):
            seeds, seconds_tried = tuple(state.seeds), time.monotonic() - began
            yield _search_preview(
                state, settings, loaded, model, target, unseen, compare, seconds_tried
            )
    losses_so_far: list[list[float]] = []
    similarities: list[list[float]] = []
    unguided_similarities: list[list[float]] = []
    run = run_of(settings, loaded, model, target, seeds)
    for step, unguided, preview in comparison.compared(run, settings, compare=compare):
        if step.loss is not None:
            losses_so_far.append(step.loss.tolist())
        pictures = [step.preview] if unguided is None else [step.preview, unguided.x0]
        scores = similarity(model, target, torch.cat(pictures)).tolist()
        similarities.append(scores[: settings.num_images])
        if unguided is not None:
            unguided_similarities.append(scores[settings.num_images :])
        yield Preview(
            **vars(preview),
            clip_revision=model.revision,
            losses=list(losses_so_far),
            similarities=list(similarities),
            unguided_similarities=list(unguided_similarities),
            unseen_words=unseen,
            seeds=list(seeds),
            seconds_tried=seconds_tried,
        )
