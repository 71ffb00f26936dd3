"""Results of a run as updates of components: pairs of pictures, status, plots, files."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr
from PIL import Image

from pipelines.core import devices, images
from pipelines.core.rules import validate
from pipelines.runs import history, provenance, time_limit, timing, zero_gpu
from pipelines.runs.comparison import Preview
from tabs import charts, common, filmstrip, i18n, lane, temp_files

TOO_LONG = "!"
"""Replaces a link that would have to contain a picture."""

_FEW = 4


@dataclass(frozen=True)
class Curve:
    """Values to plot per step, with and without guidance.

    Attributes:
        label: name of the plotted quantity.
        guided: one value per step.
        unguided: the same values without guidance.
    """

    label: str
    guided: list[float]
    unguided: list[float]


@dataclass(frozen=True)
class Product:
    """Functions and constants of a kind of run: what a tab generates, and how it shows it.

    Attributes:
        name: name of the tab, a key of `provenance.PRODUCTS`.
        settings: settings class.
        generate: function from settings to previews; `compare=False` leaves out the unguided run.
        checkpoints: function from settings to the keys of the checkpoints that they need.
        load: loads those checkpoints, and downloads missing ones.
        work: function from valid settings to the amount of computation; `compare` as above.
        preview: class of the previews that `generate` yields.
        describe: function from settings and language to one alternative text per picture.
        scores: function from preview and language to the scores as HTML.
        facts: function from preview to the scores for API callers and saved files.
        curve: function from preview and language to the plotted values.
        file_name: name of saved files.
        columns: columns of the saved sheet, of a page of few pictures, and of one of many.
        scale: screen pixels per image pixel on the saved sheet.
        crisp: whether enlarged pixels are shown as squares.
    """

    name: str
    settings: type[Any]
    generate: Callable[..., Iterator[Any]]
    checkpoints: Callable[[Any], tuple[str, ...]]
    load: Callable[[Any], None]
    work: Callable[..., timing.Work]
    preview: type[Any]
    describe: Callable[[Any, str], list[str]]
    scores: Callable[[Any, str], str]
    facts: Callable[[Any], dict[str, Any]]
    curve: Callable[[Any, str], Curve]
    file_name: str
    columns: tuple[int, int, int]
    scale: int
    crisp: bool = False

    @property
    def prefix(self) -> str:
        """Prefix of the element ids."""
        return f"{self.name}-"

    def run(self, settings: Any, *, compare: bool = True) -> Iterator[Any]:
        """Yields the previews of a run, and records its time for later estimates.

        Raises:
            SettingsError: if a setting is wrong, or the run cannot end in time.
            CheckpointError: if a checkpoint cannot be loaded.
        """
        settings = validate(settings)
        self.check_time(settings, compare=compare)
        work = self.work(settings, compare=compare)
        if devices.ZERO_GPU:
            self.load(settings)  # needs no GPU, and errors are reported from here
            stream = zero_gpu.run(self.generate, settings, compare, work)
        else:
            stream = self.generate(settings, compare=compare)
        return _with_timing(stream, work) if compare else stream

    def check_time(self, settings: Any, *, compare: bool = True) -> None:
        """Checks that a run with valid settings can end before its deadline.

        Raises:
            SettingsError: if it cannot; the message says what could.
        """
        work_of = functools.partial(self.work, compare=compare)
        time_limit.check_run(settings, work_of, limit_seconds=lane.deadline_seconds())

    def metadata(self, preview: Any) -> dict[str, Any]:
        """Returns the metadata of a saved picture."""
        return provenance.facts_of(preview) | self.facts(preview)


def _with_timing(stream: Iterator[Any], work: timing.Work) -> Iterator[Any]:
    """Yields a run; notes its time when it has finished, and frees its memory when it ends."""
    try:
        for preview in stream:
            if preview.finished:
                timing.estimator.note(work, preview.seconds)
            yield preview
    finally:
        devices.return_freed_memory()


@dataclass(frozen=True)
class ResultComponents:
    """Components that show a result."""

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
    """Returns the updates of `ResultComponents` for a preview, by name.

    Args:
        product: product of the run.
        preview: preview of the run.
        language: language of all texts.
        status: HTML that replaces the status of the run.
    """
    step_updates = {
        "pictures": tiles(product, preview, language),
        "status": status or common.run_status(preview, language),
        "scores": product.scores(preview, language),
        "charts": plots(product, preview, language),
    }
    if not preview.finished:
        return step_updates
    return step_updates | _final_updates(product, preview, language)


def _final_updates(product: Product, preview: Any, language: str) -> dict[str, Any]:
    """Returns the updates that only a finished run has: filmstrip, files and link."""
    sheet = images.grid(preview.pictures, columns=product.columns[0], scale=product.scale)
    sheet = images.with_metadata(sheet, product.metadata(preview))
    animation = history.animation(preview.history, columns=product.columns[0])
    sheet_path = common.save_png(sheet, f"{product.file_name}s")
    animation_path = temp_files.files.save_bytes(animation, f"{product.file_name}s.webp")
    return {
        "filmstrip": filmstrip.filmstrip(preview, language, crisp=product.crisp),
        "download": gr.DownloadButton(value=sheet_path, interactive=True),
        "animation": gr.DownloadButton(value=animation_path, interactive=True),
        "link": _link(preview),
    }


def _link(preview: Any) -> str:
    """Returns the query string of a link to the run, or `TOO_LONG`."""
    try:
        return provenance.to_query(preview.settings, preview.revision)
    except provenance.RecordError:
        return TOO_LONG


def start_updates(language: str) -> dict[str, Any]:
    """Returns the updates of the components when a run starts."""
    return {
        "status": common.status_line(i18n.translate(language, "status.begins")),
        "filmstrip": "",
        "download": gr.DownloadButton(interactive=False),
        "animation": gr.DownloadButton(interactive=False),
        "link": "",
    }


def failure_updates(language: str, error: Exception | None = None) -> dict[str, Any]:
    """Returns the updates of the components when a run fails.

    Args:
        language: language of the status.
        error: of the run; a passed deadline is shown, because its picture is.
    """
    if isinstance(error, lane.Overtime):
        return {"status": common.status_line(error.message)}
    return {"status": common.status_line(i18n.translate(language, "status.failed"))}


def in_output_order(updates: Mapping[str, Any]) -> list[Any]:
    """Returns updates in the order of `ResultComponents.outputs`; missing ones change nothing."""
    return [updates.get(f.name, gr.skip()) for f in fields(ResultComponents)]


def tiles(product: Product, preview: Any, language: str) -> str:
    """Returns pairs of pictures as HTML; the unguided one lies on top and is cut off at `--cut`."""
    alt_texts = product.describe(preview.settings, language)
    return pairs(product, preview.pictures, preview.unguided, alt_texts, language)


def pairs(
    product: Product,
    guided: Sequence[Image.Image],
    unguided: Sequence[Image.Image],
    alt_texts: Sequence[str],
    language: str,
) -> str:
    """Returns pairs of pictures as HTML; see `tiles`."""
    unguided_alt = html.escape(i18n.translate(language, "shared.unguided_alt"))
    cells = "".join(
        f'<div class="pair"><img src="{images.to_data_uri(after)}" alt="{html.escape(alt_text)}">'
        f'<img class="before" src="{images.to_data_uri(before)}" alt="{unguided_alt}"></div>'
        for after, before, alt_text in zip(guided, unguided, alt_texts, strict=True)
    )
    _, few, many = product.columns
    columns = min(len(guided), few if len(guided) <= _FEW * few // 2 else many)
    crisp = " crisp" if product.crisp else ""
    return f'<div class="pairs{crisp}" style="--columns: {columns}">{cells}</div>'


def plots(product: Product, preview: Any, language: str) -> str:
    """Returns two plots over the steps: the product's curve and the size of the gradient."""

    def translate(name: str) -> str:
        return i18n.translate(language, f"chart.{name}")

    description = charts.Description(
        translate("per_step"), translate("from_to"), translate("nothing")
    )
    curve = product.curve(preview, language)
    series = {translate("guided"): curve.guided}
    if curve.unguided:
        series[translate("unguided")] = curve.unguided
    curve_chart = charts.line_chart(
        series,
        total=preview.total_steps,
        x_label=translate("step"),
        y_label=curve.label,
        description=description,
    )
    gradient_chart = charts.line_chart(
        {translate("gradient"): [mean(values) for values in preview.history.gradients]},
        total=preview.total_steps,
        x_label=translate("step"),
        y_label=translate("gradient_label"),
        description=description,
    )
    return f'<div class="charts">{curve_chart}{gradient_chart}</div>'


def mean(values: Sequence[float]) -> float:
    """Returns the mean of one value per image; NaN if there are none."""
    return sum(values) / len(values) if values else float("nan")


def picture_files(product: Product, preview: Preview) -> list[gr.FileData]:
    """Saves the pictures, and returns the files for API callers.

    Only finished pictures carry metadata: nobody restores a preview, of which there are many.
    """
    metadata = product.metadata(preview) if preview.finished else None
    return common.save_pictures(preview.pictures, metadata, product.file_name)
