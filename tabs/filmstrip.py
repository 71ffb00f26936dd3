"""Filmstrip of the moments of a run, with a slider; `assets/studio.js` moves it.

All moments of a picture are one wide image, and the page shows one part of it at a time.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence

from PIL import Image

from pipelines.runs.comparison import Preview
from pipelines.runs.history import Moment
from tabs import i18n

KINDS = ("noisy", "predicted", "change")
_QUALITY = 88
_START_DIVISOR = 3  # the slider starts at a third of the run, where pictures change most


def filmstrip(preview: Preview, language: str, *, crisp: bool) -> str:
    """Returns the moments of a finished run as HTML; empty while it runs.

    Args:
        preview: preview of the run.
        language: language of the texts.
        crisp: whether enlarged pixels are shown as squares.
    """
    moments = preview.history.moments
    if not moments:
        return ""
    labels = [_label(moment, preview.total_steps, language) for moment in moments]
    pictures = range(len(moments[0].predicted))
    strips = "".join(_picture_strips(moments, i, language) for i in pictures)
    last, start = len(moments) - 1, len(moments) // _START_DIVISOR
    return (
        f'<div class="inside{" crisp" if crisp else ""}" '
        f'style="--count: {len(moments)}; --at: {start}" '
        f'data-labels="{html.escape(json.dumps(labels, ensure_ascii=False))}">'
        f"{_chooser(len(pictures), language)}{strips}"
        f'<label class="scrub"><span>{_translate(language, "moment")}</span>'
        f'<input type="range" min="0" max="{last}" value="{start}" step="1" '
        f'aria-valuetext="{html.escape(labels[start])}">'
        f'<output aria-live="off">{html.escape(labels[start])}</output></label>'
        f"{_legend(preview, language)}</div>"
    )


def _translate(language: str, name: str, **values: object) -> str:
    return html.escape(i18n.translate(language, f"inside.{name}", **values))


def _label(moment: Moment, total: int, language: str) -> str:
    return i18n.translate(language, "inside.label", step=moment.step, total=total, t=moment.t)


def _chooser(count: int, language: str) -> str:
    """Returns a list to choose one of several pictures; empty for one picture."""
    if count == 1:
        return ""
    options = "".join(
        f'<option value="{i}">{_translate(language, "picture", number=i + 1)}</option>'
        for i in range(count)
    )
    return (
        f'<label class="which"><span>{_translate(language, "which")}</span>'
        f"<select>{options}</select></label>"
    )


def _picture_strips(moments: Sequence[Moment], number: int, language: str) -> str:
    strips = {kind: strip([getattr(m, kind)[number] for m in moments]) for kind in KINDS}
    large = "".join(
        f'<figure><div class="moment" role="img" aria-label="{_translate(language, kind)}" '
        f'style="background-image: url({address})"></div>'
        f"<figcaption>{_translate(language, kind)}</figcaption></figure>"
        for kind, address in strips.items()
    )
    small = "".join(
        f'<button type="button" class="frame" data-at="{i}" style="--at: {i}; '
        f'background-image: url({strips["predicted"]})" '
        f'aria-label="{_translate(language, "show", step=moment.step)}"></button>'
        for i, moment in enumerate(moments)
    )
    hidden = " hidden" if number else ""
    return (
        f'<div class="of-picture" data-picture="{number}"{hidden}>'
        f'<div class="moments">{large}</div><div class="film">{small}</div></div>'
    )


def strip(pictures: Sequence[Image.Image]) -> str:
    """Returns pictures side by side as a data URI; WebP, because noise is large as PNG."""
    width, height = pictures[0].size
    joined = Image.new("RGB", (width * len(pictures), height))
    for i, picture in enumerate(pictures):
        joined.paste(picture, (i * width, 0))
    buffer = io.BytesIO()
    joined.save(buffer, format="WEBP", quality=_QUALITY, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _legend(preview: Preview, language: str) -> str:
    largest = preview.history.largest_change
    if not largest:
        return f'<p class="legend">{_translate(language, "unchanged")}</p>'
    return (
        f'<p class="legend"><span>{_translate(language, "none")}</span><i class="ramp"></i>'
        f"<span>{_translate(language, 'most', share=f'{100 * largest:.0f}')}</span></p>"
    )
