"""A run as the components of a tab show it: pairs of pictures, status, plots, files."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from pipelines.core import devices, images
from pipelines.core.rules import validate
from pipelines.runs import history, provenance, timing, zero_gpu
from pipelines.runs.comparison import Preview
from tabs import charts, common, filmstrip, i18n

TOO_LONG = "!"
"""Stands in place of a link that would hold a picture."""

_FEW = 4


@dataclass(frozen=True)
class Curve:
    """What is plotted per step, guided and unguided.

    Attributes:
        label: what the values are.
        guided: one value per step.
        unguided: the same without guidance.
    """

    label: str
    guided: list[float]
    unguided: list[float]


@dataclass(frozen=True)
class Product:
    """What a tab draws, and how it speaks of it.

    Attributes:
        name: of the tab, a key of `record.PRODUCTS`.
        settings: of a run.
        generate: settings to previews; with `compare=False` the guided pictures alone.
        checkpoints: keys of the checkpoints that settings need.
        load: loads them, and fetches what is not here yet.
        work: what checked settings will compute.
        preview: what `generate` yields.
        describe: settings and language to one alternative text per picture.
        scores: preview and language to HTML on what was reached.
        facts: preview to the scores, as callers and saved files get them.
        curve: preview to what is plotted.
        noun: name of saved files.
        columns: of the saved sheet, and of the page for few and for many pictures.
        scale: screen pixels per pixel on the saved sheet.
        crisp: whether pixels are to be seen as squares.
    """

    name: str
    settings: type[Any]
    generate: Callable[..., Iterator[Any]]
    checkpoints: Callable[[Any], tuple[str, ...]]
    load: Callable[[Any], None]
    work: Callable[[Any], timing.Work]
    preview: type[Any]
    describe: Callable[[Any, str], list[str]]
    scores: Callable[[Any, str], str]
    facts: Callable[[Any], dict[str, Any]]
    curve: Callable[[Any, str], Curve]
    noun: str
    columns: tuple[int, int, int]
    scale: int
    crisp: bool = False

    @property
    def prefix(self) -> str:
        """Of the ids of its elements."""
        return f"{self.name}-"

    def run(self, settings: Any, *, compare: bool = True) -> Iterator[Any]:
        """The previews of a run, whose time is learned from.

        Raises:
            SettingsError: if a setting is wrong.
            CheckpointError: if a checkpoint cannot be loaded.
        """
        settings = validate(settings)
        work = self.work(settings)
        if devices.ZERO_GPU:
            self.load(settings)  # here, for no card is needed to fetch it, and errors are told
            stream = zero_gpu.run(self.generate, settings, compare, work)
        else:
            stream = self.generate(settings, compare=compare)
        return _learned_from(stream, work) if compare else stream

    def metadata(self, preview: Any) -> dict[str, Any]:
        """What a saved picture says of itself."""
        return provenance.facts_of(preview) | self.facts(preview)


def _learned_from(stream: Iterator[Any], work: timing.Work) -> Iterator[Any]:
    for preview in stream:
        if preview.finished:
            timing.estimator.note(work, preview.seconds)
        yield preview


@dataclass(frozen=True)
class Shown:
    """The components of a result."""

    pictures: gr.HTML
    status: gr.HTML
    scores: gr.HTML
    charts: gr.HTML
    filmstrip: gr.HTML
    download: gr.DownloadButton
    animation: gr.DownloadButton
    link: gr.Textbox

    def outputs(self) -> list[Any]:
        return [getattr(self, f.name) for f in fields(self)]


def updates(
    product: Product, preview: Any, language: str, *, status: str | None = None
) -> dict[str, Any]:
    """What the components of `Shown` become, by name, after a step or at the end.

    Args:
        product: that was run.
        preview: of the run.
        language: of all words.
        status: HTML in place of where the run is.
    """
    found = {
        "pictures": tiles(product, preview, language),
        "status": status or common.status_of(preview, language),
        "scores": product.scores(preview, language),
        "charts": plots(product, preview, language),
    }
    return found | _left_behind(product, preview, language) if preview.finished else found


def _left_behind(product: Product, preview: Any, language: str) -> dict[str, Any]:
    """What a finished run leaves: its moments, files, and a link."""
    sheet = images.grid(preview.pictures, columns=product.columns[0], scale=product.scale)
    sheet = images.with_metadata(sheet, product.metadata(preview))
    moving = history.animation(preview.history, columns=product.columns[0])
    folder = get_upload_folder()
    saved = common.save_png(sheet, f"{product.noun}s")
    animated = save_bytes_to_cache(moving, f"{product.noun}s.webp", folder)
    return {
        "filmstrip": filmstrip.filmstrip(preview, language, crisp=product.crisp),
        "download": gr.DownloadButton(value=saved, interactive=True),
        "animation": gr.DownloadButton(value=animated, interactive=True),
        "link": _link(preview),
    }


def _link(preview: Any) -> str:
    """The query of a link to the run, or `TOO_LONG`."""
    try:
        return provenance.to_query(preview.settings, preview.revision)
    except provenance.RecordError:
        return TOO_LONG


def begun(language: str) -> dict[str, Any]:
    """What the components become when a run begins."""
    return {
        "status": common.status_line(i18n.translate(language, "status.begins")),
        "filmstrip": "",
        "download": gr.DownloadButton(interactive=False),
        "animation": gr.DownloadButton(interactive=False),
        "link": "",
    }


def failed(language: str) -> dict[str, Any]:
    """What the components become when a run could not begin, or broke."""
    return {"status": common.status_line(i18n.translate(language, "status.failed"))}


def in_order(found: Mapping[str, Any]) -> list[Any]:
    """Updates in the order of `Shown.outputs`; the others stay as they are."""
    return [found.get(f.name, gr.skip()) for f in fields(Shown)]


def tiles(product: Product, preview: Any, language: str) -> str:
    """Pairs of pictures as HTML, the unguided one on top, cut off at `--cut`."""
    wishes = product.describe(preview.settings, language)
    return pairs(product, preview.pictures, preview.unguided, wishes, language)


def pairs(
    product: Product,
    guided: Sequence[Image.Image],
    unguided: Sequence[Image.Image],
    wishes: Sequence[str],
    language: str,
) -> str:
    """See `tiles`."""
    without = html.escape(i18n.translate(language, "shared.unguided_alt"))
    cells = "".join(
        f'<div class="pair"><img src="{images.to_data_uri(after)}" alt="{html.escape(wish)}">'
        f'<img class="before" src="{images.to_data_uri(before)}" alt="{without}"></div>'
        for after, before, wish in zip(guided, unguided, wishes, strict=True)
    )
    _, few, many = product.columns
    columns = min(len(guided), few if len(guided) <= _FEW * few // 2 else many)
    crisp = " crisp" if product.crisp else ""
    return f'<div class="pairs{crisp}" style="--columns: {columns}">{cells}</div>'


def plots(product: Product, preview: Any, language: str) -> str:
    """Two plots over the steps: how near the prediction is, and how strong the gradient."""

    def said(name: str) -> str:
        return i18n.translate(language, f"chart.{name}")

    described = charts.Words(said("per_step"), said("from_to"), said("nothing"))
    curve = product.curve(preview, language)
    series = {said("guided"): curve.guided}
    if curve.unguided:
        series[said("unguided")] = curve.unguided
    near = charts.line_chart(
        series,
        total=preview.total_steps,
        x_label=said("step"),
        y_label=curve.label,
        words=described,
    )
    gradient = charts.line_chart(
        {said("gradient"): [mean(values) for values in preview.history.gradients]},
        total=preview.total_steps,
        x_label=said("step"),
        y_label=said("gradient_label"),
        words=described,
    )
    return f'<div class="charts">{near}{gradient}</div>'


def mean(values: Sequence[float]) -> float:
    """Of one value per image; not a number where a step has none."""
    return sum(values) / len(values) if values else float("nan")


def answer(product: Product, preview: Preview) -> list[gr.FileData]:
    """The pictures as files that say how they were made, for API callers."""
    return common.save_pictures(preview.pictures, product.metadata(preview), product.noun)
