"""Results of a run as updates of components: pairs of pictures, status, plots, files."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Mapping, Sequence
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

MAX_RECORDS = 2**20
"""Characters that the metadata of all guided, or all unguided, pictures of a page may have."""

MAX_AREA = 2**21
"""Pixels that all pictures of a page may have, guided and unguided; a file has them in full."""

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
    private: gr.DownloadButton
    link: gr.Textbox

    def outputs(self) -> list[Any]:
        return [getattr(self, f.name) for f in fields(self)]


def updates(
    product: Product,
    preview: Any,
    language: str,
    *,
    status: str | None = None,
    stopped: bool = False,
) -> dict[str, Any]:
    """Returns the updates of `ResultComponents` for a preview, by name.

    Args:
        product: product of the run.
        preview: preview of the run.
        language: language of all texts.
        status: HTML that replaces the status of the run.
        stopped: whether the run ended with this preview; it can be taken away like a finished one.
    """
    is_last = preview.finished or stopped
    preview = preview.at_full_size() if is_last else preview
    status = status or (
        common.run_status(preview, language)
        if preview.finished or not stopped
        else common.stopped_status(preview, language)
    )
    return {
        "pictures": tiles(product, preview, language, with_records=is_last),
        "status": status,
        "scores": scores(product, preview, language),
        "charts": plots(product, preview, language),
        **(_last_updates(product, preview, language) if is_last else _nothing_to_take()),
    }


def _last_updates(product: Product, preview: Any, language: str) -> dict[str, Any]:
    """Returns the updates that only the end of a run has: filmstrip, files and link."""
    sheet = images.grid(preview.pictures, columns=product.columns[0], scale=product.scale)
    facts, name = product.metadata(preview), _file_name(product, len(preview.pictures))
    view = view_of(product)
    return {
        "filmstrip": filmstrip.filmstrip(preview, language, crisp=product.crisp),
        "download": _saved(sheet, facts, name),
        "animation": _animation(product, preview),
        "private": _saved(sheet, provenance.with_hashes(facts), f"{name}-without-my-picture")
        if view.saves_without_pictures
        else gr.skip(),
        "link": _link(preview),
    }


def _file_name(product: Product, count: int) -> str:
    """Returns the name of a file of so many pictures, without its ending."""
    name = view_of(product).file_name
    return name(count) if name else f"{product.file_name}s"


def _saved(sheet: Image.Image, facts: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns the update of a button that gives a sheet with metadata."""
    path = common.save_png(images.with_metadata(sheet, facts), name)
    return gr.update(value=path, interactive=True)


def _animation(product: Product, preview: Any) -> dict[str, Any]:
    """Returns the update of the animation's button; a run that was stopped at once has none."""
    if not preview.history.frames:
        return gr.update(interactive=False)
    animation = history.animation(preview.history, columns=product.columns[0])
    name = _file_name(product, len(preview.pictures))
    path = temp_files.files.save_bytes(animation, f"{name}.webp")
    return gr.update(value=path, interactive=True)


def _nothing_to_take() -> dict[str, Any]:
    """Returns the updates while a run goes on, whose pictures take the place of earlier ones."""
    return {
        "filmstrip": "",
        "download": gr.update(interactive=False),
        "animation": gr.update(interactive=False),
        "private": gr.update(interactive=False),
        "link": "",
    }


def _link(preview: Any) -> str:
    """Returns the query string of a link to the run, or `TOO_LONG`."""
    stopped = None if preview.finished else preview.step
    try:
        return provenance.to_query(preview.settings, preview.revisions, stopped=stopped)
    except provenance.RecordError:
        return TOO_LONG


def start_updates(language: str) -> dict[str, Any]:
    """Returns the updates when a run starts; the earlier result stays until there is a picture."""
    begins = i18n.translate(language, "status.begins")
    return {"status": common.status_line(begins, kind=common.BEGINS)}


def stop_updates(product: Product, preview: Any, status: str | None, language: str) -> Any:
    """Returns the updates when a run is stopped.

    Args:
        product: product of the run.
        preview: that the page shows; None if it shows none.
        status: status line of the page.
        language: language of all texts.
    """
    if preview is not None and not preview.finished:
        return updates(product, preview, language, stopped=True)
    return {"status": common.status_before_pictures(status, language)}


def end_updates(
    product: Product, preview: Any, earlier: Any, language: str, error: Exception
) -> dict[str, Any]:
    """Returns the updates when a run fails: what is then shown can be taken away.

    Args:
        product: product of the run.
        preview: the latest of the page; None if there is none.
        earlier: the latest before the run.
        language: language of all texts.
        error: of the run.
    """
    failed = failure_updates(language, error)
    shown = shown_after(preview, earlier, error)
    if shown is None or (shown is preview is earlier and shown.finished):
        return failed
    return updates(product, shown, language, stopped=True) | failed


def shown_after(preview: Any, earlier: Any, error: Exception) -> Any:
    """Returns the preview that a failed run leaves: the earlier one, or its own past a deadline."""
    return preview if earlier is None or isinstance(error, lane.Overtime) else earlier


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


def tiles(product: Product, preview: Any, language: str, *, with_records: bool = False) -> str:
    """Returns pairs of pictures as HTML; the unguided one lies on top and is cut off at `--cut`.

    Args:
        product: product of the run.
        preview: preview of the run.
        language: language of all texts.
        with_records: whether each picture carries its own metadata, for those who save it.
    """
    alt_texts = alt_texts_of(product, preview.settings, language)
    guided, unguided = preview.pictures, preview.unguided
    if with_records:
        guided = recorded(guided, lambda i: product.picture_metadata(preview, i))
    if with_records and product.unguided:
        unguided = recorded(unguided, lambda i: product.unguided_metadata(preview, i))
    return pairs(product, guided, unguided, alt_texts, language, can_edit=with_records)


def recorded(
    pictures: Sequence[Image.Image],
    metadata_of: Callable[[int], dict[str, Any]],
    *,
    on_page: int = 0,
) -> list[Image.Image]:
    """Returns pictures of a page, each with its metadata.

    Uploaded pictures in it that would make the page heavy are replaced by their hash.

    Args:
        pictures: of one run.
        metadata_of: function from the index of a picture to its metadata.
        on_page: number of all pictures of the page; 0 if there are no others.
    """
    count = on_page or len(pictures)
    light = count * len(json.dumps(metadata_of(0))) < MAX_RECORDS if pictures else True
    shown = (metadata_of(i) for i in range(len(pictures)))
    kept = (facts if light else provenance.with_hashes(facts) for facts in shown)
    return [images.with_metadata(p, facts) for p, facts in zip(pictures, kept, strict=True)]


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
    *,
    can_edit: bool = False,
) -> str:
    """Returns pairs of pictures as HTML; see `tiles`.

    Pictures that would make the page heavy are smaller there.

    Args:
        product: product of the run.
        guided: pictures below.
        unguided: pictures on top.
        alt_texts: of the pictures below.
        language: of all texts.
        can_edit: whether each has a button that takes it to the tab for editing.
    """
    unguided_alt = i18n.translate(language, i18n.own_key(product, "shared.unguided_alt"))
    share = _share_shown([*guided, *unguided])
    cells = "".join(
        f'<div class="pair"{_ratio(after)}>'
        f'<img src="{_address(after, share)}" alt="{html.escape(alt_text)}">'
        f'<img class="before" src="{_address(before, share)}" alt="{html.escape(unguided_alt)}">'
        f"{_edit_button(i, language) if can_edit else ''}</div>"
        for i, (after, before, alt_text) in enumerate(zip(guided, unguided, alt_texts, strict=True))
    )
    _, few, many = product.columns
    columns = min(len(guided), few if len(guided) <= _FEW * few // 2 else many)
    crisp = " crisp" if product.crisp else ""
    return f'<div class="pairs{crisp}" style="--columns: {columns}">{cells}</div>'


def _share_shown(pictures: Sequence[Image.Image]) -> float:
    """Returns how much smaller than they are the pictures of a page are shown; 1 is not at all."""
    area = sum(picture.width * picture.height for picture in pictures)
    return min(1.0, math.sqrt(MAX_AREA / area)) if area else 1.0


def _address(picture: Image.Image, share: float) -> str:
    """Returns a picture of the page as a data address, with its text entries."""
    if share == 1:
        return images.to_data_uri(picture)
    size = (max(1, int(share * picture.width)), max(1, int(share * picture.height)))
    smaller = picture.resize(size, Image.Resampling.LANCZOS)
    smaller.info = dict(picture.info)
    return images.to_data_uri(smaller)


def _ratio(picture: Image.Image) -> str:
    """Returns the style of a picture that is not square."""
    ratio = picture.width / picture.height
    return "" if ratio == 1 else f' style="--ratio: {ratio:.4f}"'


def _edit_button(index: int, language: str) -> str:
    """Returns the button that takes a picture to the tab for editing; see `assets/canvas.js`."""
    alt = html.escape(i18n.translate(language, "edit.edit_this_alt", number=index + 1))
    text = html.escape(i18n.translate(language, "edit.edit_this"))
    return (
        f'<button type="button" class="edit-this" aria-label="{alt}" title="{text}">'
        f'<span aria-hidden="true">✎</span><span>{text}</span></button>'
    )


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
    pictures = preview.pictures
    if preview.finished:
        metadata = [product.picture_metadata(preview, i) for i in range(len(pictures))]
        pictures = [images.with_metadata(p, m) for p, m in zip(pictures, metadata, strict=True)]
    return common.save_pictures(pictures, product.file_name)
