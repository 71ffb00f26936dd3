"""CLIP text guidance: from settings to a stream of guided and unguided pictures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pipelines.core import images
from pipelines.core.rules import (
    ColorOrNone,
    Picture,
    Prompt,
    Real,
    SettingsError,
    Whole,
    off_at,
    setting,
    show,
    validate,
)
from pipelines.diffusion import losses, plugins
from pipelines.diffusion.guidance import switched_off_by
from pipelines.diffusion.methods import TEXT_METHODS, Method
from pipelines.models import checkpoints, clip, ways
from pipelines.models.clip import Clip
from pipelines.products import guided
from pipelines.products import guided_settings as shared
from pipelines.products.guided_settings import check_guidance, method_of
from pipelines.products.words import (
    EXPLANATION,
    TEXTS,
    Target,
    fit_of,
    scored_later,
    similarity,
    target_of,
    terms_of,
    unguided_settings,
    unreadable_words,
    unseen_words,
)
from pipelines.runs import comparison, seed_search
from pipelines.runs.history import History
from pipelines.runs.product import Curve, Product, mean
from pipelines.runs.run import Run
from pipelines.runs.timing import Work

MAX_TRIES = 32

_VIEWS_AT_ONCE = 32  # that CLIP sees in one step of the seed search


def _words_off_by(settings: Any) -> str:
    """Returns the name of the setting that leaves all prompts without effect, or ""."""
    return "" if settings.tries > 1 else switched_off_by(settings)


@plugins.extended
@dataclass(frozen=True)
class TextSettings(shared.SeveralPictures):
    """The settings of a run of CLIP text guidance.

    Attributes:
        prompt: a sentence to guide towards, or several with weights.
        negative_prompt: sentences to guide away from; empty is off.
        guidance_scale: strength: 0 is off, 0.05 subtle, 0.5 the maximum; for method "course" it is
            the course's own scale, about 8.
        num_inference_steps: number of denoising steps.
        num_images: number of pictures, with consecutive seeds.
        seed: of the first picture; picture i takes seed + i, but drawn alone it may look different.
            -1 draws one at random.
        model: key of an unconditional checkpoint.
        method: one of `methods`.
        clip_model: key of the CLIP that compares picture and words.
        image_prompt: a picture to guide towards, as a data address; empty is off.
        image_weight: weight of that picture; a sentence has weight 1.
        color: a mean colour to guide towards too; empty is off.
        color_weight: weight of the colour; the words have weight 1.
        cutouts: number of crops of the picture that CLIP sees in each guided step.
        start: share of the steps after which guidance begins.
        stop: share of the steps after which guidance ends.
        every: guide only every n-th step, n times as strongly; 1 is every step.
        repeats: how often each middle step is done (recurrence); 0 is the method's own number.
        eta: fresh noise per step, 0 none, 1 as much as DDPM; -1 is the method's own value.
        computed_by: how networks are computed: "measured" as this machine found fastest, or one of
            the ways by name; a machine may not have all of them.
        tries: seeds tried for each picture; the one that fits best after the first steps is drawn.
            Picture i tries the seeds from seed + i * tries on. 1 is off.
    """

    methods: ClassVar[Mapping[str, Method]] = TEXT_METHODS

    prompt: str = setting(
        "a landscape with trees",
        Prompt(),
        "Prompt",
        "Several with weights: snow:1 | people:-0.5",
        group="wish",
    )
    negative_prompt: str = shared.negative_prompt("wish", _words_off_by)
    guidance_scale: float = shared.guidance_scale()
    num_inference_steps: int = shared.num_inference_steps(20)
    num_images: int = shared.num_images()
    seed: int = shared.seed()
    model: str = shared.model()
    method: str = shared.method(TEXT_METHODS)
    clip_model: str = shared.clip_model()
    image_prompt: str = setting(
        "",
        Picture(),
        "A picture to be like",
        short="Picture to be like",
        group="more",
        overruled=off_at("image_weight", 0, _words_off_by),
    )
    image_weight: float = shared.weight(
        Real(0.0, 5.0), "that picture", "A sentence weighs 1", "image_prompt", _words_off_by
    )
    color: str = setting(
        "",
        ColorOrNone(),
        "Mean colour as well",
        "#44CCAA, rgb(68, 204, 170) or teal; empty: none",
        group="more",
        overruled=off_at("color_weight", 0, switched_off_by),
    )
    color_weight: float = shared.weight(
        Real(0.0, 1.0, step=0.05), "the colour", "0: none", "color", switched_off_by
    )
    cutouts: int = setting(
        1,
        Whole(1, 16),
        "Cutouts",
        "Crops it looks at in each guided step",
        group="advanced",
        overruled=switched_off_by,
    )
    start: float = shared.start()
    stop: float = shared.stop(0.8)
    every: int = shared.every()
    repeats: int = shared.repeats()
    eta: float = shared.noise()
    tries: int = setting(
        1,
        Whole(1, MAX_TRIES),
        "Seeds tried",
        "For each picture; the one that fits best early on is drawn",
    )
    # No `timesteps`: words act at middle noise, which learned ones leave out.
    computed_by: str = shared.computed_by()

    def check_together(self) -> None:
        if not self.prompt and not (self.image_prompt and self.image_weight):
            raise SettingsError("prompt_missing")
        check_guidance(self)
        if method_of(self).is_bare and self.color:
            raise SettingsError("course_color", got=show(self.color))
        if method_of(self).is_bare and (own := plugins.losses_used_by(self)):
            raise SettingsError("course_own", name=own[0], got=show(getattr(self, own[0])))


@dataclass(frozen=True)
class Preview(comparison.Preview):
    """The state of a run after one step.

    Attributes:
        clip_revision: of the CLIP's weights.
        losses: per guided step, one value per image: distance of its crops to the prompt.
        similarities: per step, one value per image; see `similarity`.
        unguided_similarities: the same without guidance; empty without unguided pictures.
        unseen_words: words of the prompts that are not in the CLIP's training data, in any script.
        seeds: of the pictures; during the seed search, the best so far.
        seconds_tried: duration of the seed search before the first step.
    """

    clip_revision: str
    losses: list[list[float]]
    similarities: list[Sequence[float]]
    unguided_similarities: list[Sequence[float]]
    unseen_words: list[str]
    seeds: list[int] = field(default_factory=list)
    seconds_tried: float = 0.0

    @property
    def revisions(self) -> dict[str, str]:
        """The revisions of the model and of the CLIP, by key."""
        return {**super().revisions, self.settings.clip_model: self.clip_revision}

    @property
    def seconds(self) -> float:
        """Seconds since the run began, including the seed search."""
        return self.seconds_tried + self.times[-1]

    @property
    def score_before(self) -> Sequence[float]:
        """The `similarity` of each unguided picture to the prompt; empty if none are drawn."""
        return self.unguided_similarities[-1] if self.unguided_similarities else []

    @property
    def score_after(self) -> Sequence[float]:
        """The `similarity` of each guided picture to the prompt."""
        return self.similarities[-1]


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
    model = model.by(ways.asked(settings.computed_by, model.device))
    return _generate(settings, loaded, model, target_of(settings, model), compare)


def run_of(
    settings: TextSettings,
    loaded: checkpoints.Loaded,
    model: Clip,
    target: Target,
    seeds: Sequence[int],
) -> Run:
    """Returns a run with the given seeds, ready to draw; the settings must be checked."""
    terms = terms_of(settings, model, target, seeds)
    return Run(guided.plan_of(settings, seeds), loaded, guided.guide_of(settings, terms))


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
    settings: TextSettings, loaded: checkpoints.Loaded, model: Clip, target: Target, compare: bool
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
    similarities: list[Sequence[float]] = []
    unguided_similarities: list[Sequence[float]] = []
    run = run_of(settings, loaded, model, target, seeds)
    for step, unguided, preview in comparison.compared(run, settings, compare=compare):
        if step.loss is not None:
            losses_so_far.append(step.loss.tolist())
        shown = [step.preview] if unguided is None else [step.preview, unguided.x0]
        scores, *unguided_scores = scored_later(model, target, shown, step.total)
        similarities.append(scores)
        unguided_similarities += unguided_scores
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


def facts(preview: Preview) -> dict[str, Any]:
    """Returns the similarities, for API callers and saved files."""
    return {
        "score": "cosine similarity",
        "score_before": [round(value, 4) for value in preview.score_before],
        "score_after": [round(value, 4) for value in preview.score_after],
        "clip_revision": preview.clip_revision,
    }


def details(preview: Preview) -> dict[str, Any]:
    """Returns what API callers get besides the scores."""
    return {
        "loss": [[round(value, 6) for value in step] for step in preview.losses],
        "similarity": [[round(value, 4) for value in step] for step in preview.similarities],
        "failed_steps": preview.failed_steps,
        "seeds": preview.seeds,
        "unseen_words": preview.unseen_words,
        "unreadable_words": unreadable_words(preview.settings, preview.unseen_words),
    }


def curve(preview: Preview) -> Curve:
    """Returns the mean similarity between predicted picture and prompt, per step."""
    return Curve(
        "curve_words" if preview.settings.prompt else "curve_picture",
        [mean(step) for step in preview.similarities],
        [mean(step) for step in preview.unguided_similarities],
    )


PRODUCT = Product(
    name="text",
    settings=TextSettings,
    preview=Preview,
    generate=generate,
    checkpoints=lambda settings: (settings.model, settings.clip_model),
    load=load,
    work=work,
    facts=facts,
    details=details,
    unguided=lambda preview, index: unguided_settings(preview.settings, preview.seeds[index]),
    curve=curve,
    noise_shape=(3, 64, 64),
    first_sweep=("guidance_scale", "prompt"),
    explanation=EXPLANATION,
    texts=TEXTS,
    description="""Paints pictures of a prompt, with an unconditional model and CLIP.

Streams `(images, info)`: PNG files and a dict with seed, step, total_steps, seconds, model,
revision, settings, versions, loss (per guided step, one value per image), score_before and
score_after (per image: cosine similarity to the prompt), seeds (per image: the best
of the tried seeds). The last result is complete; step is 0 while seeds are tried.""",
    only_setting="prompt",
    file_name="painting",
    position=2,
)
