"""Results of a run as updates of components: pairs of pictures, status, plots, files."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr
from PIL import Image

from pipelines.core import images
from pipelines.diffusion.noise import draw_noise, image_generators
from pipelines.runs import history, provenance
from pipelines.runs.comparison import Preview
from pipelines.runs.product import Product, mean
from tabs import charts, common, filmstrip, i18n, lane, temp_files
from tabs.view import score_rows
from tabs.views import view_of

TOO_LONG = "!"
"""Replaces a link that would have to contain a picture."""

_FEW = 4


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
        "scores": scores(product, preview, language),
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
        "download": gr.update(value=sheet_path, interactive=True),
        "animation": gr.update(value=animation_path, interactive=True),
        "link": _link(preview),
    }


def _link(preview: Any) -> str:
    """Returns the query string of a link to the run, or `TOO_LONG`."""
    try:
        return provenance.to_query(preview.settings, preview.revisions)
    except provenance.RecordError:
        return TOO_LONG


def start_updates(language: str) -> dict[str, Any]:
    """Returns the updates of the components when a run starts."""
    return {
        "status": common.status_line(i18n.translate(language, "status.begins"), kind=common.BEGINS),
        "filmstrip": "",
        "download": gr.update(interactive=False),
        "animation": gr.update(interactive=False),
        "link": "",
    }


def failure_updates(language: str, error: Exception | None = None) -> dict[str, Any]:
    """Returns the updates of the components when a run fails.

    The status is not announced, because the error's message is.

    Args:
        language: language of the status.
        error: of the run; a passed deadline is shown, because its picture is.
    """
    if isinstance(error, lane.Overtime):
        return {"status": common.status_line(error.message, kind=common.QUIET)}
    failed = i18n.translate(language, "status.failed")
    return {"status": common.status_line(failed, kind=common.QUIET)}


def in_output_order(updates: Mapping[str, Any]) -> list[Any]:
    """Returns updates in the order of `ResultComponents.outputs`; missing ones change nothing."""
    return [updates.get(f.name, gr.skip()) for f in fields(ResultComponents)]


def tiles(product: Product, preview: Any, language: str) -> str:
    """Returns pairs of pictures as HTML; the unguided one lies on top and is cut off at `--cut`."""
    alt_texts = alt_texts_of(product, preview.settings, language)
    return pairs(product, preview.pictures, preview.unguided, alt_texts, language)


def alt_texts_of(product: Product, settings: Any, language: str) -> Sequence[str]:
    """Returns one alternative text per picture."""
    of_view = view_of(product).alt_texts
    if of_view is not None:
        return of_view(settings, language)
    return [i18n.text_of(product, language, "alt")] * settings.count


def scores(product: Product, preview: Any, language: str) -> str:
    """Returns the scores of a preview as HTML."""
    of_view = view_of(product).scores
    if of_view is not None:
        return of_view(preview, language)
    return f'<div class="scores">{score_rows(preview, language)}</div>'


def starting_noise(product: Product, language: str = i18n.DEFAULT) -> str:
    """Returns the noise that the default run starts from, shown before the first run, as HTML."""
    settings = product.settings()
    noise = draw_noise(image_generators(settings.seed, settings.count), product.noise_shape)
    pictures = images.to_pil(noise / 3)
    alt = i18n.translate(language, "shared.noise_alt")
    return pairs(product, pictures, pictures, [alt] * len(pictures), language)


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
    curve = product.curve(preview)
    series = {translate("guided"): curve.guided}
    if curve.unguided:
        series[translate("unguided")] = curve.unguided
    curve_chart = charts.line_chart(
        series,
        total=preview.total_steps,
        x_label=translate("step"),
        y_label=i18n.text_of(product, language, curve.label),
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


def picture_files(product: Product, preview: Preview) -> list[gr.FileData]:
    """Saves the pictures, and returns the files for API callers.

    Only finished pictures carry metadata: nobody restores a preview, of which there are many.
    """
    metadata = product.metadata(preview) if preview.finished else None
    return common.save_pictures(preview.pictures, metadata, product.file_name)
