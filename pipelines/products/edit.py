"""Editing: a picture of one's own, of which a part is drawn anew and the rest stays as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from PIL import Image

from pipelines.core import images
from pipelines.core.rules import (
    Choice,
    ColorOrNone,
    Crop,
    DrawnMask,
    EditedPicture,
    Overruled,
    Prompt,
    Real,
    SettingsError,
    Whole,
    setting,
    validate,
)
from pipelines.diffusion import losses, plugins
from pipelines.diffusion.guidance import switched_off_by
from pipelines.diffusion.inversion import EVALUATIONS
from pipelines.diffusion.known import Known
from pipelines.diffusion.methods import TEXT_METHODS, Method
from pipelines.models import checkpoints, clip, ways
from pipelines.models.checkpoints import Loaded
from pipelines.products import edit_previews, edit_tasks, guided, words
from pipelines.products import guided_settings as shared
from pipelines.products.canvas import Canvas
from pipelines.products.edit_previews import Words
from pipelines.products.edit_texts import EXPLANATION, TEXTS
from pipelines.products.guided_settings import check_guidance, method_of
from pipelines.runs import comparison
from pipelines.runs.product import Curve, Product, mean
from pipelines.runs.run import Run
from pipelines.runs.timing import Work

METHODS: dict[str, Method] = {
    name: method for name, method in TEXT_METHODS.items() if not method.is_bare
}
"""The methods of guidance by words, without the course's, which knows one loss alone."""

_PREVIEW_PX = 256  # longest side of the pictures that are shown before the last step


def _only_for(*tasks: str, otherwise: Overruled = lambda _: "") -> Overruled:
    """Returns a function that names the task, while it is another one than these."""
    return lambda settings: otherwise(settings) if settings.task in tasks else "task"


def _color_off_by(settings: Any) -> str:
    """Returns the name of the setting that leaves the colour without effect, or ""."""
    if settings.task == "sharpen":  # the small picture says every mean
        return "task"
    return "palette" if settings.palette else switched_off_by(settings)


def _repeats_off_by(settings: Any) -> str:
    """Returns the name of the setting that leaves nothing to repeat, or ""."""
    if edit_tasks.has_facts(settings):
        return ""
    return switched_off_by(settings) if edit_tasks.has_wishes(settings) else "task"


class _WithoutThese(shared.SeveralPictures):
    """What guidance by words knows and editing leaves out, at values that are off."""

    image_prompt: str = ""
    image_weight: float = 0.0
    cutouts: int = 1
    every: int = 1


@plugins.extended
@dataclass(frozen=True)
class EditSettings(_WithoutThese):
    """The settings of a run that edits a picture.

    Attributes:
        image: the picture, as a data address or an uploaded file, 16 to 1024 px wide and high.
        task: "fill" draws what the mask marks, or what is transparent; "restyle" draws the picture
            anew from a noisy copy; "colorize" takes the grey of the picture and draws its colours;
            "sharpen" draws a picture that would become this one if it were made `factor` times
            smaller; "vary" draws neighbours of it, the last one the farthest.
        mask: what is redrawn: a picture of the same size, white where it is, grey in between; empty
            is all. The rest comes back to the bit.
        strength: how much may change in "restyle" and "vary": 0 leaves the picture, 1 keeps nothing
            of it. Of several pictures of "vary", each goes farther, up to that.
        crop: the square that the model sees, "x, y, side" in pixels of the picture; empty is chosen
            around what is redrawn, or around all of the picture.
        factor: how many times smaller a picture "sharpen" takes as true: 2, 4, 8 or 16.
        prompt: a sentence to guide towards, or several with weights; empty is off.
        negative_prompt: sentences to guide away from; empty is off.
        color: a mean colour of what is redrawn; empty is off.
        palette: up to five colours with shares, instead of `color`; empty is off.
        symmetry: a mirror axis; "none" is off.
        guidance_scale: strength of these wishes: 0 is off, 0.05 subtle, 0.5 the maximum.
        num_inference_steps: number of denoising steps.
        num_images: number of pictures, with consecutive seeds.
        seed: of the first picture; picture i takes seed + i. -1 draws one at random.
        model: key of an unconditional checkpoint.
        method: one of `methods`.
        clip_model: key of the CLIP that compares picture and words.
        start: share of the steps after which guidance by wishes begins.
        stop: share of the steps after which guidance by wishes ends.
        repeats: how often each middle step is done (recurrence); 0 is the method's own number.
        eta: fresh noise per step, 0 none, 1 as much as DDPM; -1 is as task and method say.
        computed_by: how networks are computed: "measured" as this machine found fastest, or one of
            the ways by name; a machine may not have all of them.
    """

    methods: ClassVar[Mapping[str, Method]] = METHODS

    image: str = setting("", EditedPicture(), "Picture", group="wish")
    task: str = setting("fill", Choice(edit_tasks.NAMES), "What to do", group="wish")
    mask: str = setting(
        "", DrawnMask(), "Mask, white where it is redrawn", short="Mask", group="wish"
    )
    strength: float = setting(
        0.5,
        Real(0.0, 1.0, step=0.05),
        "Strength",
        "0: as it was. 0.5: clear. 1: nothing of it is left",
        group="wish",
        suggested=("0.2", "0.35", "0.5", "0.65", "0.8"),
        overruled=_only_for("restyle", "vary"),
    )
    crop: str = setting(
        "",
        Crop(),
        "Square that the model sees",
        "Left, top, side in pixels; empty: around what is redrawn",
        short="Square",
        group="more",
        in_sweeps=False,
    )
    factor: int = setting(
        4,
        Whole(2, 16),
        "Times smaller",
        "2, 4, 8 or 16: what of the picture is taken as true",
        group="wish",
        suggested=("2", "4", "8"),
        overruled=_only_for("sharpen"),
    )
    prompt: str = setting(
        "", Prompt(), "Prompt", "What is to be there; empty: whatever fits", group="wish"
    )
    negative_prompt: str = shared.negative_prompt("more", switched_off_by, needs=("prompt",))
    color: str = setting(
        "",
        ColorOrNone(),
        "Mean colour of what is redrawn",
        "#44CCAA, rgb(68, 204, 170) or teal; empty: none",
        short="Mean colour",
        group="more",
        overruled=_color_off_by,
    )
    palette: str = shared.palette()
    symmetry: str = shared.symmetry("more")
    guidance_scale: float = shared.guidance_scale(needs=edit_tasks.WISHES)
    num_inference_steps: int = shared.num_inference_steps(20)
    num_images: int = shared.num_images()
    seed: int = shared.seed()
    model: str = shared.model()
    method: str = shared.method(METHODS, group="advanced")
    clip_model: str = shared.clip_model(needs=("prompt",))
    start: float = shared.start(needs=edit_tasks.WISHES)
    stop: float = shared.stop(0.8, needs=edit_tasks.WISHES)
    repeats: int = shared.repeats(overruled=_repeats_off_by)
    eta: float = shared.noise()
    computed_by: str = shared.computed_by()

    def check_together(self) -> None:
        check_guidance(self)
        if not self.image:
            raise SettingsError("edit_no_picture")
        if self.task == "sharpen" and self.factor not in edit_tasks.FACTORS:
            raise SettingsError("factor", got=self.factor)
        edit_tasks.check_canvas(self)


@dataclass(frozen=True)
class Preview(comparison.Preview):
    """The state of a run after one step; `unguided` holds the picture that came.

    Attributes:
        clip_revision: of the CLIP's weights; empty without words.
        losses: per step, one value per image: how far the network's prediction is from what is
            known, or from the picture; the root mean square, 0 to 255.
        score_before: of the picture that came, per image; see `facts`.
        score_after: of each edited picture.
        unseen_words: words of the prompts that are not in the CLIP's training data, in any script.
        whole: of a preview before the last, `pictures` and `unguided` at the size of the picture.
    """

    clip_revision: str
    losses: list[list[float]]
    score_before: Sequence[float]
    score_after: Sequence[float]
    unseen_words: list[str]
    whole: Sequence[Sequence[Image.Image]] = field(default=(), metadata=comparison.NOT_STORED)

    def at_full_size(self) -> Self:
        if not self.whole:
            return self
        pictures, came = self.whole
        return replace(self, pictures=pictures, unguided=came if self.unguided else [], whole=())

    @property
    def revisions(self) -> dict[str, str]:
        """The revisions of the model and, with words, of the CLIP, by key."""
        own = super().revisions
        return {**own, self.settings.clip_model: self.clip_revision} if self.clip_revision else own


def has_words(settings: EditSettings) -> bool:
    """Returns whether a CLIP takes part."""
    return bool(settings.prompt)


def load(settings: EditSettings) -> None:
    """Loads the models of a run; fetches them first if needed.

    Raises:
        CheckpointError: if a model cannot be fetched or loaded.
    """
    checkpoints.load(settings.model)
    if has_words(settings):
        clip.load(settings.clip_model)


def work(settings: EditSettings, *, compare: bool = True) -> Work:
    """Returns the work of a run with checked settings, to estimate its time."""
    # Those of a run need the models; any others will do.
    known = [losses.GreyIs(torch.zeros(1, 1))] if edit_tasks.has_facts(settings) else []
    wished = [losses.Term(losses.Symmetry())] if edit_tasks.has_wishes(settings) else []
    guide = edit_tasks.guide_of(settings, known, wished)
    count = edit_tasks.steps_of(settings)
    costs = guided.evaluations_of(guide, method_of(settings).solver, count)
    inversion = EVALUATIONS * count if settings.task == "vary" else 0
    kind = ("edit", settings.model, "words" if has_words(settings) else "", settings.method)
    return Work(kind, sum(costs) + inversion, settings.num_images)


def wishes_of(
    settings: EditSettings, seen: Canvas, size_px: int, of_words: Words | None
) -> list[losses.Term]:
    """Returns the losses of the wishes; the colour comes last, so nothing moves x0 after it."""
    terms = [losses.Term(losses.Symmetry(settings.symmetry))] if settings.symmetry != "none" else []
    if of_words:
        seeds = guided.seeds_of(settings)
        terms.append(words.words_term(settings, of_words.model, of_words.target, seeds))
    terms += plugins.terms_of(settings)
    mask = (seen.free(size_px) > 0).float() if seen.has_mask else None
    if settings.palette:
        terms.append(losses.Term(guided.palette_loss(settings.palette, mask)))
    elif edit_tasks.has_color(settings):
        terms.append(losses.Term(losses.MeanColor(images.color_to_tensor(settings.color), mask)))
    return terms


def generate(settings: EditSettings, *, compare: bool = True) -> Iterator[Preview]:
    """Edits a picture; yields once per step.

    Args:
        settings: of the run.
        compare: whether previews hold the picture that came too.

    Raises:
        ValueError: if a setting is wrong, or a sentence too long; raised at once, before any step.
        CheckpointError: if a checkpoint cannot be loaded; raised at once too.
    """
    settings = validate(settings)
    loaded, of_words = checkpoints.load(settings.model), None
    if has_words(settings):
        model = clip.load(settings.clip_model)
        model = model.by(ways.asked(settings.computed_by, model.device))
        of_words = Words(model, words.target_of(settings, model))
    seen = edit_tasks.canvas_of(settings, loaded.checkpoint.size_px)
    return _generate(settings, run_of(settings, loaded, seen, of_words), seen, of_words, compare)


def run_of(settings: EditSettings, loaded: Loaded, seen: Canvas, of_words: Words | None) -> Run:
    """Returns a run that is ready to draw; the settings must be checked."""
    size_px = loaded.checkpoint.size_px
    facts = edit_tasks.facts_of(settings, seen, size_px)
    guide = edit_tasks.guide_of(settings, facts, wishes_of(settings, seen, size_px, of_words))
    begin = edit_tasks.begin_of(settings, loaded, seen.seen(size_px))
    return Run(edit_tasks.plan_of(settings, loaded), loaded, guide, begin=begin)


def _generate(
    settings: EditSettings, run: Run, seen: Canvas, of_words: Words | None, compare: bool
) -> Iterator[Preview]:
    loaded, far = run.loaded, list[list[float]]()
    picture = seen.seen(loaded.checkpoint.size_px).to(loaded.device)  # (1, 3, s, s)
    known = run.guide.facts if isinstance(run.guide, Known) else ()
    unseen = words.unseen_words(settings, of_words.model) if of_words else []
    free, small = seen.free(picture.shape[-1]).to(picture), seen.shrunk(_PREVIEW_PX)
    for step, _, preview in comparison.side_by_side(run.steps(), None, settings, loaded):
        far.append(edit_previews.distances(known, picture, step.x0_network))
        agreed = edit_tasks.agreed if settings.task == "colorize" else None
        whole = edit_previews.edited_and_came(seen, step.preview, agreed)
        shown, came = (
            whole if preview.finished else edit_previews.edited_and_came(small, step.preview)
        )
        drawn = torch.where(free > 0, step.preview, picture)
        before, after = edit_previews.scores(of_words, picture, drawn, step.total)
        yield Preview(
            **vars(preview) | {"pictures": shown, "unguided": came if compare else []},
            clip_revision=of_words.model.revision if of_words else "",
            losses=list(far),
            score_before=before,
            score_after=after,
            unseen_words=unseen,
            whole=() if preview.finished else whole,
        )


def facts(preview: Preview) -> dict[str, Any]:
    """Returns the scores, for API callers and saved files.

    With words they are similarities, without them how far a picture is from the one that came, the
    root mean square over the square that the model sees, 0 to 255.
    """
    digits = 4 if preview.clip_revision else 2
    told = {"clip_revision": preview.clip_revision} if preview.clip_revision else {}
    return {
        "score": "cosine similarity" if preview.clip_revision else "change",
        "score_before": [round(value, digits) for value in preview.score_before],
        "score_after": [round(value, digits) for value in preview.score_after],
    } | told


def details(preview: Preview) -> dict[str, Any]:
    """Returns what API callers get besides the scores."""
    return {
        "loss": [[round(value, 3) for value in step] for step in preview.losses],
        "failed_steps": preview.failed_steps,
        "unseen_words": preview.unseen_words,
    }


def curve(preview: Preview) -> Curve:
    """Returns the mean distance of the network's prediction from what is known, per step."""
    name = "curve_known" if edit_tasks.has_facts(preview.settings) else "curve_picture"
    return Curve(name, [mean(step) for step in preview.losses], [])


PRODUCT = Product(
    name="edit",
    settings=EditSettings,
    preview=Preview,
    generate=generate,
    checkpoints=lambda settings: (
        (settings.model, settings.clip_model) if has_words(settings) else (settings.model,)
    ),
    load=load,
    work=work,
    facts=facts,
    details=details,
    curve=curve,
    noise_shape=(3, 64, 64),
    first_sweep=("strength", "seed"),
    explanation=EXPLANATION,
    texts=TEXTS,
    description="""Edits a picture: fills a part of it, restyles, colours, sharpens or varies it.

Streams `(images, info)`: PNG files of the size of the picture (the last ones; before, smaller ones)
and a dict with seed, step, total_steps, seconds, model, revision, settings, versions, loss (per
step, one value per image: how far the prediction is from what is known), score_before and
score_after (per image: cosine similarity to the prompt, or without one how far it is from the
picture). What the mask leaves comes back to the bit. The last result is complete.""",
    only_setting="task",
    file_name="edited",
    scale=1,
    position=3,
)
