"""Colour guidance: from settings to a stream of guided and unguided pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

from PIL import Image
from torch import Tensor

from pipelines.core import colorimetry, images
from pipelines.core.errors import Option
from pipelines.core.later import Later
from pipelines.core.rules import (
    Choice,
    Color,
    Mask,
    Real,
    SettingsError,
    setting,
    shown_choice,
    validate,
)
from pipelines.diffusion import losses, plugins
from pipelines.diffusion.guidance import Guide, switched_off_by
from pipelines.diffusion.methods import METHODS, Method
from pipelines.diffusion.solvers.ddim import ddim_step
from pipelines.models import checkpoints
from pipelines.products import guided
from pipelines.products import guided_settings as shared
from pipelines.products.guided_settings import check_guidance, method_of
from pipelines.runs import comparison
from pipelines.runs.explanation import LOOP, RADIUS, SOLVER_LINKS, STEP, Excerpt, Explanation
from pipelines.runs.product import Curve, Product, mean
from pipelines.runs.run import Run
from pipelines.runs.timing import Work


def _loss_off_by(settings: Any) -> str:
    """Returns the name of the setting that leaves `loss` without effect, or ""."""
    return "method" if method_of(settings).is_bare else switched_off_by(settings)


def _region_off_by(settings: Any) -> str:
    """Returns the name of the setting that leaves `region` without effect, or ""."""
    return "mask" if settings.mask else switched_off_by(settings)


@plugins.extended
@dataclass(frozen=True)
class ColorSettings(shared.SeveralPictures):
    """The settings of a run of colour guidance.

    Attributes:
        color: the colour to steer towards.
        guidance_scale: strength: 0 is off, 0.05 subtle, 0.5 the maximum; for method "course" it is
            the course's own scale, about 40.
        num_inference_steps: number of denoising steps.
        num_images: number of pictures, with consecutive seeds.
        seed: of the first picture; picture i takes seed + i. -1 draws one at random.
        model: key of an unconditional checkpoint.
        method: one of `methods`.
        loss: "mean" guides the mean colour, "pixels" every pixel, as in the course.
        region: the part of the picture for `color`.
        mask: another part: white in a picture given as a data address; empty is off.
        palette: up to five colours with shares, instead of `color`; empty is off.
        brightness: wanted mean luma, 0 black to 1 white; -1 is off.
        contrast: wanted standard deviation of luma, 0 flat to 0.5 the maximum; -1 is off.
        symmetry: a mirror axis; "none" is off.
        extras_weight: weight of brightness, contrast and symmetry; the colour has weight 1.
        start: share of the steps after which guidance begins.
        stop: share of the steps after which guidance ends.
        every: guide only every n-th step, n times as strongly; 1 is every step.
        repeats: how often each middle step is done (recurrence); 0 is the method's own number.
        eta: fresh noise per step, 0 none, 1 as much as DDPM; -1 is the method's own value.
        timesteps: "learned" takes those that were learned for the model, where there are some: with
            method "fast" in 4, 6, 8 or 12 steps. "spaced" takes the solver's own.
        computed_by: how networks are computed: "measured" as this machine found fastest, or one of
            the ways by name; a machine may not have all of them.
    """

    methods: ClassVar[Mapping[str, Method]] = METHODS

    color: str = setting(
        "#44CCAA",
        Color(),
        "Colour",
        "#44CCAA, rgb(68, 204, 170) or teal",
        group="wish",
        overruled=lambda settings: "palette" if settings.palette else "",
    )
    guidance_scale: float = shared.guidance_scale()
    num_inference_steps: int = shared.num_inference_steps(20)
    num_images: int = shared.num_images()
    seed: int = shared.seed()
    model: str = shared.model()
    method: str = shared.method(METHODS)
    loss: str = setting(
        "mean",
        Choice(("mean", "pixels")),
        "What shall have the colour",
        short="Colour of",
        group="advanced",
        overruled=_loss_off_by,
    )
    region: str = setting(
        "all",
        Choice(losses.REGIONS),
        "Part of the picture that the colour is for",
        short="Region",
        group="more",
        overruled=_region_off_by,
    )
    mask: str = setting(
        "",
        Mask(),
        "Or a square mask picture, white where the colour belongs",
        short="Mask",
        group="more",
        overruled=switched_off_by,
    )
    palette: str = shared.palette()
    brightness: float = shared.brightness("more")
    contrast: float = shared.contrast("more")
    symmetry: str = shared.symmetry("more")
    extras_weight: float = setting(
        1.0,
        Real(0.0, 1.0, step=0.05),
        "Weight of these",
        "Symmetry, brightness, contrast",
        short="Weight of symmetry and its like",
        group="more",
        needs=shared.EXTRAS,
        overruled=switched_off_by,
    )
    start: float = shared.start()
    stop: float = shared.stop()
    every: int = shared.every()
    repeats: int = shared.repeats()
    eta: float = shared.noise()
    timesteps: str = shared.timesteps()
    computed_by: str = shared.computed_by()

    def check_together(self) -> None:
        check_guidance(self)
        if self.mask and self.region != "all":
            raise SettingsError("region_or_mask", got=Option("region", self.region))
        if self.loss == "pixels" and (self.region != "all" or self.mask or self.palette):
            raise SettingsError("loss_pixels")
        if method_of(self).is_bare and self.only_ours():
            name = self.only_ours()[0]
            raise SettingsError("course_only", name=name, got=shown_choice(self, name))

    def only_ours(self) -> list[str]:
        """Returns the names of settings in use that the course's notebook does not have."""
        names = ("region", "mask", "palette", "brightness", "contrast", "symmetry")
        return shared.changed(self, (*names, *plugins.losses_of(self)))


@dataclass(frozen=True)
class Preview(comparison.Preview):
    """The state of a run after one step.

    Attributes:
        losses: per finished step, one value per image: the loss of the network's prediction.
        unguided_losses: the same without guidance; empty without unguided pictures.
        score_before: distance of each unguided picture to the target, see `score`; empty without
            unguided pictures.
        score_after: distance of each guided picture to the target.
    """

    losses: list[list[float]]
    unguided_losses: list[list[float]]
    score_before: Sequence[float]
    score_after: Sequence[float]


def region_of(settings: ColorSettings, size_px: int) -> Tensor | None:
    """Returns the mask `(h, w)` of the region for the colour; None is the full picture."""
    if settings.mask:
        return _read_mask(settings.mask, size_px)
    return losses.region_mask(settings.region, size_px, size_px)


@lru_cache(maxsize=4)  # the score of every picture in every step needs it
def _read_mask(address: str, size_px: int) -> Tensor:
    """Returns a mask `(h, w)` with maximum 1, so that a spot smaller than a pixel counts too."""
    mask = losses.resized_mask(images.to_mask(images.from_data_uri(address)), size_px, size_px)
    return mask / mask.amax()


def color_loss(settings: ColorSettings, size_px: int) -> losses.Loss:
    """Returns the loss for the colour, or for the palette if there is one."""
    color = images.color_to_tensor(settings.color)  # (3,)
    if is_per_pixel(settings):
        return losses.TargetColor(color)
    mask = region_of(settings, size_px)
    if not settings.palette:
        return losses.MeanColor(color, mask)
    return guided.palette_loss(settings.palette, mask)


def is_per_pixel(settings: ColorSettings) -> bool:
    """Returns whether every pixel shall have the colour, not only the mean of all."""
    return method_of(settings).is_bare or settings.loss == "pixels"


def terms_of(settings: ColorSettings, size_px: int) -> list[losses.Term]:
    """Returns all loss terms of a run; the colour comes last, so nothing moves x0 after it."""
    extras = [losses.Term(loss, settings.extras_weight) for loss in guided.extra_losses(settings)]
    return [*extras, *plugins.terms_of(settings), losses.Term(color_loss(settings, size_px))]


def score(picture: Image.Image, settings: ColorSettings) -> float:
    """Returns the distance of a picture to its target; 0 is reached.

    It is CIEDE2000 between the mean colour (of the region) and the wanted colour; for a palette,
    the root of its loss on the scale of 0 to 255.
    """
    if settings.palette:
        loss = color_loss(settings, picture.width)(images.to_tensor(picture))
        return float(loss.sqrt()) * 127.5
    mean = images.mean_rgb(picture, region_of(settings, picture.width))
    return colorimetry.difference(mean, images.parse_color(settings.color))


def mean_color(picture: Image.Image, settings: ColorSettings) -> str:
    """Returns the mean colour of the picture, or of the region, as `#RRGGBB`."""
    mean = images.mean_rgb(picture, region_of(settings, picture.width))
    return images.to_hex([*map(round, mean)])


def load(settings: ColorSettings) -> None:
    """Loads the models of a run; fetches them first if needed.

    Raises:
        CheckpointError: if a model cannot be fetched or loaded.
    """
    checkpoints.load(settings.model)


def work(settings: ColorSettings, *, compare: bool = True) -> Work:
    """Returns the work of a run with checked settings, to estimate its time."""
    kind = ("color", settings.model, settings.method)
    return guided.work_of(settings, kind, terms_of(settings, size_px=8), compare=compare)


def generate(settings: ColorSettings, *, compare: bool = True) -> Iterator[Preview]:
    """Draws guided and unguided pictures from the same seeds; yields once per step.

    Args:
        settings: of the run.
        compare: whether to draw the unguided pictures too.

    Raises:
        ValueError: if a setting is wrong; raised at once, before any step.
        CheckpointError: if the checkpoint cannot be loaded; raised at once too.
    """
    settings = validate(settings)
    loaded = checkpoints.load(settings.model)
    terms = terms_of(settings, loaded.checkpoint.size_px)
    run = guided.run_of(settings, loaded, terms)
    return _previews(run, losses.total(terms), settings, compare)


def _previews(
    run: Run, loss: Callable[[Tensor], Tensor], settings: ColorSettings, compare: bool
) -> Iterator[Preview]:
    loss_values: list[list[float]] = []
    unguided_loss_values: list[list[float]] = []
    for step, unguided, preview in comparison.compared(run, settings, compare=compare):
        loss_values.append(loss(step.x0_network).tolist())
        if unguided is not None:
            unguided_loss_values.append(loss(unguided.x0_network).tolist())
        yield Preview(
            **vars(preview),
            losses=list(loss_values),
            unguided_losses=list(unguided_loss_values),
            score_before=Later.of(lambda picture: score(picture, settings), preview.unguided),
            score_after=Later.of(lambda picture: score(picture, settings), preview.pictures),
        )


def facts(preview: Preview) -> dict[str, Any]:
    """Returns the distances to the target, for API callers and saved files."""
    return {
        "score": "palette distance" if preview.settings.palette else "CIEDE2000",
        "score_before": [round(value, 3) for value in preview.score_before],
        "score_after": [round(value, 3) for value in preview.score_after],
    }


def details(preview: Preview) -> dict[str, Any]:
    """Returns what API callers get besides the scores."""
    return {
        "loss": [[round(value, 6) for value in step] for step in preview.losses],
        "failed_steps": preview.failed_steps,
    }


def curve(preview: Preview) -> Curve:
    """Returns the mean distance between predicted and target colour, per step."""
    squared = not is_per_pixel(preview.settings)

    def distances(values: list[list[float]]) -> list[float]:
        means = [mean(of_step) for of_step in values]
        return [127.5 * (value**0.5 if squared else value) for value in means]

    return Curve("curve", distances(preview.losses), distances(preview.unguided_losses))


_EXPLANATION = Explanation(
    equations=(
        r"d = x_0 - \Pi(x_0), \qquad " + RADIUS,
        r"x_0 \leftarrow x_0 - \min\left(1, \frac{r}{\mathrm{rms}(d)}\right) d",
        STEP,
    ),
    excerpts=(
        LOOP,
        Excerpt("project", Guide._displacement, "full = ", "return full"),
        Excerpt("solver", ddim_step, "eps = ", "return alpha_prev * x0"),
    ),
    links=("course", *SOLVER_LINKS, "dps", "freedom", "ugd", "mpgd", "tfg"),
)

_TEXTS = {
    "title": "Colour",
    "introduction": (
        "Choose a colour and press **Paint**. A model that has only ever learned to paint is "
        "steered, step by step, towards pictures of that colour; nothing is trained for it. "
        "Both pictures grow from the same noise."
    ),
    "run": "Paint",
    "pick": "Pick",
    "alt": "Picture guided towards {color}",
    "alt_part": "Picture guided towards {color} in its part {part}",
    "alt_palette": "Picture guided towards the palette {palette}",
    "swatch_alt": "Target {target}, reached {reached}",
    "palette_alt": "Palette {palette}",
    "target": "Target",
    "reached": "reached",
    "delta_e": "ΔE tells how different two colours look: below 2 is hard to see.",
    "palette_distance": "Distance to the palette, in steps of 255.",
    "cell_note": "ΔE to the wanted colour: lower is better.",
    "cell_note_palette": "Distance to the palette, in steps of 255: lower is better.",
    "curve": "Distance of the predicted picture to the target, in steps of 255",
    "swatch.turquoise": "Turquoise",
    "swatch.sky": "Sky",
    "swatch.ultramarine": "Ultramarine",
    "swatch.violet": "Violet",
    "swatch.rose": "Rose",
    "swatch.vermilion": "Vermilion",
    "swatch.amber": "Amber",
    "swatch.moss": "Moss",
    "swatch.ivory": "Ivory",
    "swatch.charcoal": "Charcoal",
    "idea": (
        "A diffusion model starts from pure noise and takes a little of it away in every "
        "step. In each step it also guesses what the finished picture will be, and there we "
        "can steer: the guess is moved to the nearest picture of your colour, but only as "
        "far as the picture is still undecided, and the model goes on from there. Nothing is "
        "trained for it, and whatever the colour leaves open the model decides."
    ),
    "symbols": (
        "*x*<sub>t</sub>: the noisy picture, whose parts of picture and of noise are "
        "α<sub>t</sub> and σ<sub>t</sub>. *x*<sub>0</sub>: the finished picture as the "
        "network predicts it. Π(*x*<sub>0</sub>): the nearest picture of the wanted mean "
        "colour. *r*: the trust region, the farthest that a step may go. λ: the guidance "
        "scale. ε: the noise that *x*<sub>0</sub> leaves in *x*<sub>t</sub>, found anew "
        "after the move. *s*: the next, less noisy step. rms: the root mean square. Written "
        "for the method `balanced`, without its fresh noise (eta 0); its solver also looks "
        "back at the step before."
    ),
    "caption.project": (
        "Inside a step, the guide moves the predicted picture `x0` towards the nearest one "
        "of your colour. `limit` is the trust region."
    ),
    "caption.solver": (
        "The solver goes on from the moved picture: it finds the noise that fits it, and "
        "mixes both anew for the next level of noise."
    ),
}

PRODUCT = Product(
    name="color",
    settings=ColorSettings,
    preview=Preview,
    generate=generate,
    checkpoints=lambda settings: (settings.model,),
    load=load,
    work=work,
    facts=facts,
    details=details,
    unguided=lambda preview, index: replace(preview.settings, guidance_scale=0.0, mask=""),
    curve=curve,
    noise_shape=(3, 64, 64),
    first_sweep=("guidance_scale", "seed"),
    explanation=_EXPLANATION,
    texts=_TEXTS,
    description="""Paints pictures of a colour, with a model that was not trained for it.

Streams `(images, info)`: PNG files and a dict with seed, step, total_steps, seconds, model,
revision, settings, versions, loss (per step, one value per image), score_before and score_after
(per image: CIEDE2000 between its mean colour and the target). The last result is complete.""",
    only_setting="color",
    file_name="painting",
    position=1,
)
