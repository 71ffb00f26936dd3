"""Look inside: the moments of a run as a filmstrip to be scrubbed, which `assets/studio.js` moves.

Each row of moments is one picture, a strip of which one part is seen at a time.
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
_FIRST_SEEN = 3  # the moment after this part of the run, in which most is happening


def filmstrip(preview: Preview, language: str, *, crisp: bool) -> str:
    """The moments of a finished run as HTML; nothing while it runs.

    Args:
        preview: of the run.
        language: of its words.
        crisp: whether pixels are to be seen as squares.
    """
    moments = preview.history.moments
    if not moments:
        return ""
    labels = [_label(moment, preview.total_steps, language) for moment in moments]
    pictures = range(len(moments[0].predicted))
    shown = "".join(_of_one_picture(moments, i, language) for i in pictures)
    last, first_seen = len(moments) - 1, len(moments) // _FIRST_SEEN
    return (
        f'<div class="inside{" crisp" if crisp else ""}" '
        f'style="--count: {len(moments)}; --at: {first_seen}" '
        f'data-labels="{html.escape(json.dumps(labels, ensure_ascii=False))}">'
        f"{_chooser(len(pictures), language)}{shown}"
        f'<label class="scrub"><span>{_say(language, "moment")}</span>'
        f'<input type="range" min="0" max="{last}" value="{first_seen}" step="1" '
        f'aria-valuetext="{html.escape(labels[first_seen])}">'
        f'<output aria-live="polite">{html.escape(labels[first_seen])}</output></label>'
        f"{_legend(preview, language)}</div>"
    )


def _say(language: str, name: str, **values: object) -> str:
    return html.escape(i18n.translate(language, f"inside.{name}", **values))


def _label(moment: Moment, total: int, language: str) -> str:
    return i18n.translate(language, "inside.label", step=moment.step, total=total, t=moment.t)


def _chooser(count: int, language: str) -> str:
    """A list to choose one of several pictures from."""
    if count == 1:
        return ""
    options = "".join(
        f'<option value="{i}">{_say(language, "picture", number=i + 1)}</option>'
        for i in range(count)
    )
    return (
        f'<label class="which"><span>{_say(language, "which")}</span>'
        f"<select>{options}</select></label>"
    )


def _of_one_picture(moments: Sequence[Moment], number: int, language: str) -> str:
    strips = {kind: strip([getattr(m, kind)[number] for m in moments]) for kind in KINDS}
    large = "".join(
        f'<figure><div class="moment" role="img" aria-label="{_say(language, kind)}" '
        f'style="background-image: url({address})"></div>'
        f"<figcaption>{_say(language, kind)}</figcaption></figure>"
        for kind, address in strips.items()
    )
    small = "".join(
        f'<button type="button" class="frame" data-at="{i}" style="--at: {i}; '
        f'background-image: url({strips["predicted"]})" '
        f'aria-label="{_say(language, "show", step=moment.step)}"></button>'
        for i, moment in enumerate(moments)
    )
    hidden = " hidden" if number else ""
    return (
        f'<div class="of-picture" data-picture="{number}"{hidden}>'
        f'<div class="moments">{large}</div><div class="film">{small}</div></div>'
    )


def strip(pictures: Sequence[Image.Image]) -> str:
    """Pictures side by side as a `data:` address; WebP, for noise is large as PNG."""
    width, height = pictures[0].size
    whole = Image.new("RGB", (width * len(pictures), height))
    for i, picture in enumerate(pictures):
        whole.paste(picture, (i * width, 0))
    buffer = io.BytesIO()
    whole.save(buffer, format="WEBP", quality=_QUALITY, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _legend(preview: Preview, language: str) -> str:
    largest = preview.history.largest_change
    if not largest:
        return f'<p class="legend">{_say(language, "unchanged")}</p>'
    return (
        f'<p class="legend"><span>{_say(language, "none")}</span><i class="ramp"></i>'
        f"<span>{_say(language, 'most', share=f'{100 * largest:.0f}')}</span></p>"
    )
