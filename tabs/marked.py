"""Texts in HTML that carry their source, so that the page can be translated without the server
knowing what it shows."""

from __future__ import annotations

import html
import json
import re
from typing import Any

from tabs import i18n
from tabs.i18n import Translated

_MARKED = re.compile(r'data-source="([^"]*)">[^<]*<')


def element(tag: str, text: str, attributes: str = "") -> str:
    """Returns an HTML element with a text, and with its source if it is `Translated`.

    Args:
        tag: of the element.
        text: not escaped yet.
        attributes: of the element, as HTML.
    """
    mark = ""
    if isinstance(text, Translated):
        mark = f' data-source="{html.escape(json.dumps(text.source))}"'
    opening = f"{tag} {attributes}".rstrip()
    return f"<{opening}{mark}>{html.escape(text, quote=False)}</{tag}>"


def translated(page_html: Any, language: str) -> str:
    """Returns HTML with all its texts that carry a source in a language; other texts stay.

    Args:
        page_html: as the browser sends it, so anything.
        language: its code.
    """
    if not isinstance(page_html, str):
        return ""
    return _MARKED.sub(lambda match: _in(language, match), page_html)


def _in(language: str, match: re.Match[str]) -> str:
    try:
        text = i18n.said_in(language, json.loads(html.unescape(match[1])))
        mark = html.escape(json.dumps(text.source))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):  # none of ours
        return match[0]
    return f'data-source="{mark}">{html.escape(text, quote=False)}<'
