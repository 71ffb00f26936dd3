"""Guidance by words: what a CLIP compares pictures with, the loss, and what the page says of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from pipelines.core import devices, images
from pipelines.core.later import Later
from pipelines.core.limits import MEGABYTE
from pipelines.core.rules import prompt_entries
from pipelines.diffusion import losses, plugins
from pipelines.diffusion.guidance import Guide
from pipelines.diffusion.methods.method import polyak
from pipelines.diffusion.noise import seeded, spawn
from pipelines.diffusion.views import VIEWS, random_views
from pipelines.models import clip, zero_shot
from pipelines.models.clip import Clip
from pipelines.models.table import CLIPS
from pipelines.products.guided_settings import GuidedSettings, method_of
from pipelines.runs.explanation import LOOP, RADIUS, SOLVER_LINKS, STEP, Excerpt, Explanation

if TYPE_CHECKING:
    from pipelines.products.text import TextSettings

_MOST_UNSCORED_BYTES = 64 * MEGABYTE
_VIEWS_STREAM = 1  # number of the random stream of the crops, apart from that of the noise


class WordSettings(GuidedSettings, Protocol):
    """Settings that steer by words."""

    @property
    def prompt(self) -> str: ...
    @property
    def negative_prompt(self) -> str: ...
    @property
    def clip_model(self) -> str: ...
    @property
    def image_prompt(self) -> str: ...
    @property
    def image_weight(self) -> float: ...
    @property
    def cutouts(self) -> int: ...


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


def unguided_settings(settings: TextSettings, seed: int) -> TextSettings:
    """Returns the settings that draw the unguided picture of a seed; of a search, that one alone.

    A picture to be like is left out where there are words besides, because nothing follows it.
    """
    off = replace(settings, guidance_scale=0.0)
    if off.prompt:
        off = replace(off, image_prompt="")
    return off if off.tries == 1 else replace(off, num_images=1, tries=1, seed=seed)


def target_of(settings: WordSettings, model: Clip) -> Target:
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


def scored_later(
    model: Clip, target: Target, shown: Sequence[Tensor], total_steps: int
) -> list[Sequence[float]]:
    """Returns the similarities of some batches, computed together when somebody looks at one.

    Args:
        model: the CLIP.
        target: of the run.
        shown: pictures, `(b, 3, h, w)` each, that are kept until then.
        total_steps: of the run; if all its pictures were much to keep, they are scored at once.
    """
    together = Later(lambda: similarity(model, target, torch.cat([*shown])).tolist())
    sizes = [len(batch) for batch in shown]
    ends = zip(sizes, itertools.accumulate(sizes), strict=True)
    slices = [slice(end - size, end) for size, end in ends]
    if total_steps * sum(batch.nbytes for batch in shown) > _MOST_UNSCORED_BYTES:
        _ = together.items
    return [Later.part(together, of_batch) for of_batch in slices]


def fit_of(settings: WordSettings, model: Clip, target: Target) -> Callable[[Tensor], Tensor]:
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
    settings: WordSettings, model: Clip, generators: Sequence[torch.Generator]
) -> Callable[[Tensor], Tensor]:
    """Returns a function of `x0` that gives the embeddings of random crops, `(k, b, d)`."""
    method = method_of(settings)
    views = replace(method.views or VIEWS, count=settings.cutouts)

    def embed_crops(x0: Tensor) -> Tensor:
        crops = random_views(x0, views, model.size_px, generators)  # (k, b, 3, s, s)
        inputs = 2 * crops - 1 if method.shows_signed_range else crops
        return clip.encode_images(model, inputs.flatten(0, 1)).unflatten(0, crops.shape[:2])

    return embed_crops


def words_term(
    settings: WordSettings, model: Clip, target: Target, seeds: Sequence[int]
) -> losses.Term:
    """Returns the loss of the words, of a run with the given seeds."""
    generators = [spawn(generator, _VIEWS_STREAM) for generator in seeded(seeds)]
    embed_crops = embed_crops_of(settings, model, generators)
    return losses.Term(losses.EmbeddingDistance(embed_crops, target.embeddings, target.weights))


def terms_of(
    settings: TextSettings, model: Clip, target: Target, seeds: Sequence[int]
) -> list[losses.Term]:
    """Returns the loss terms of a run with the given seeds; the colour comes last."""
    terms = [words_term(settings, model, target, seeds), *plugins.terms_of(settings)]
    if settings.color:
        color = losses.MeanColor(images.color_to_tensor(settings.color))
        terms.append(losses.Term(color, settings.color_weight))
    return terms


def unseen_words(settings: WordSettings, model: Clip) -> list[str]:
    """Returns the words of the prompts that are not in the CLIP's training data."""
    entries = prompt_entries(settings.prompt) + prompt_entries(settings.negative_prompt)
    return clip.unseen_words(model, " ".join(text for text, _ in entries))


def unreadable_words(settings: WordSettings, unseen: Sequence[str]) -> list[str]:
    """Returns those of the unseen words whose script the CLIP never learned."""
    return clip.unreadable_words(CLIPS[settings.clip_model], unseen)


EXPLANATION = Explanation(
    equations=(
        r"g = \frac{\partial}{\partial x_0}\,\frac{\theta^2}{2}, \qquad " + RADIUS,
        r"x_0 \leftarrow x_0 - r\,\frac{g}{\mathrm{rms}(g)}",
        STEP,
    ),
    excerpts=(
        LOOP,
        Excerpt("distance", losses.great_circle, "chord = ", "return "),
        Excerpt("gradient", Guide._differentiated, "with torch.enable_grad"),
        Excerpt("trust", polyak, "moved_rms = ", "return "),
    ),
    links=(
        *("course", *SOLVER_LINKS, "clip", "glide", "freedom", "ugd", "mpgd", "tfg"),
        *("interval", "search"),
    ),
)

_EXPLANATION_TEXTS = {
    "idea": (
        "The model that paints knows no words. A second network, a CLIP, puts sentences and "
        "pictures on one sphere, where what belongs together lies close together. In each "
        "step it looks at random crops of the picture that the model predicts, and the "
        "picture is moved a little in the direction that brings it closer to your words."
    ),
    "symbols": (
        "θ: the angle between your words and a crop of the picture, as the CLIP sees them. "
        "*x*<sub>0</sub>: the finished picture as the network predicts it from the noisy "
        "one, *x*<sub>t</sub>. *g*: the gradient, which says how every pixel changes the "
        "angle. *r*: the trust region, the length of a step. λ: the guidance scale. α, σ: "
        "the parts of picture and of noise in *x*<sub>t</sub>. ε: the noise that "
        "*x*<sub>0</sub> leaves in it, found anew after the move. *s*: the next, less noisy "
        "step. rms: the root mean square. Written for the method `balanced`, without its "
        "fresh noise (eta 0); its solver also looks back at the step before."
    ),
    "caption.distance": (
        "Half the squared angle between two embeddings `a` and `b`: how far words and "
        "picture are apart."
    ),
    "caption.gradient": (
        "How that distance changes with every pixel of the predicted picture. No pass back "
        "through the model that paints is needed."
    ),
    "caption.trust": (
        "The predicted picture goes against the gradient, up to the edge of the trust region."
    ),
}

TEXTS = {
    "title": "Text",
    "introduction": (
        "Say what you want to see and press **Paint**. A model that has only learned to "
        "paint, and knows no words, is steered by a second one, a CLIP, that can tell how "
        "well words fit a picture. Both pictures grow from the same noise."
    ),
    "run": "Paint",
    "alt": "Picture guided {wishes}",
    "alt_prompt": "towards the words: {wish}",
    "alt_picture": "towards an uploaded picture",
    "alt_negative": "away from: {wish}",
    "alt_color": "towards the colour {wish}",
    "and": ", ",
    "try_paintings": "These work on paintings:",
    "try_scenes": "These work on scenes:",
    "try_emoji": "Best with thorough and several seeds tried:",
    "score_of_words": "Similarity to the words",
    "score_of_picture": "Similarity to the picture",
    "curve_words": "Similarity of the predicted picture to the words",
    "curve_picture": "Similarity of the predicted picture to the picture",
    "judge": (
        "As {clip} sees it: 1 is the best there could be, 0 is unrelated. It is the judge of "
        "its own work here, so trust your eyes."
    ),
    "cell": "similarity {score}",
    "cell_note": "Similarity to what was asked for, 0 to 1: higher is better.",
    "unseen": "{clip} never saw these words, and can only guess: {words}",
    "unreadable": "{clip} learned English; it cannot read these words: {words}",
    **_EXPLANATION_TEXTS,
}
