"""Uploaded pictures: the page and the API pass them on unread, for `pipelines.core.pictures`."""

from __future__ import annotations

import html
from abc import ABCMeta
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.data_classes import ImageData
from gradio.utils import get_upload_folder, is_in_or_equal

from pipelines.core import pictures
from pipelines.core.rules import SettingsError, is_picture, rule
from pipelines.runs.product import Product
from tabs import i18n


class WithoutStub(type(gr.Image)):
    """Makes a component class without the stub file that Gradio writes beside its source."""

    def __new__(cls, name: str, bases: tuple[type, ...], attributes: dict[str, Any]) -> WithoutStub:
        return ABCMeta.__new__(cls, name, bases, attributes)


class PictureUpload(gr.Image, metaclass=WithoutStub):
    """Like `gr.Image`, but events get the path of the uploaded file; nothing is decoded."""

    is_template = True  # the page shows it as its parent

    def preprocess(self, payload: ImageData | None) -> Any:
        """Returns the path of the file, or its `data:` address; empty for none."""
        return "" if payload is None else uploaded(payload.model_dump())


@dataclass(frozen=True)
class Control:
    """The control of a setting that is a picture, and what belongs to it.

    Attributes:
        upload: the control.
        message: sentence below it about a file that cannot be used; else empty.
        kept: path of the last file that could be used; the page keeps it, as a state on the server
            would hold a connection open for every client.
    """

    upload: gr.Image
    message: gr.HTML
    kept: gr.Textbox


def picture_upload(**options: Any) -> gr.Image:
    """Lays out the control of a setting that is a picture; `wire` finds what belongs to it."""
    upload: Any = PictureUpload(
        image_mode=None,
        sources=["upload"],
        format="png",  # lossless, so that a restored run has the same picture
        height=120,
        elem_classes="picture-upload",  # `assets/studio.js` knows it by this
        **options,
    )
    message = gr.HTML(elem_id=f"{upload.elem_id}-message", elem_classes="upload-message")
    upload.parts = Control(upload, message, gr.Textbox("", visible=False))
    return upload


def wire(product: Product, controls: Mapping[str, Any], language: Component) -> None:
    """Makes each picture control tell of a file that cannot be used, and keep the one before."""
    for name, control in controls.items():
        parts = getattr(control, "parts", None)
        if parts is not None:
            _wire(product, name, parts, language)


def _wire(product: Product, name: str, parts: Control, language: Component) -> None:
    def check(value: Any, kept: str, language_code: str) -> list[Any]:
        return checked(product, name, value, kept, language_code)

    def chosen_again(value: Any, kept: str) -> Any:
        return "" if str(value) == kept else gr.skip()  # a message about another file is past

    instant: dict[str, Any] = {
        "queue": False,
        "show_progress": "hidden",
        "api_visibility": "private",
    }
    parts.upload.change(
        check,
        inputs=[parts.upload, parts.kept, language],
        outputs=[parts.upload, parts.kept, parts.message],
        **instant,
    )
    parts.upload.upload(
        chosen_again, inputs=[parts.upload, parts.kept], outputs=parts.message, **instant
    )


def checked(product: Product, name: str, value: Any, kept: Any, language: str) -> list[Any]:
    """Returns the updates after a picture control has changed: of it, of what is kept, a message.

    A message stays when the control goes back to what is kept.

    Args:
        product: that has the setting.
        name: of the setting.
        value: of the control.
        kept: path of the last file that could be used; empty for none. The page sends it, so only
            uploaded files count.
        language: of the message.
    """
    kept = kept if _is_uploaded(kept) else ""
    if str(value) == kept:
        return [gr.skip(), gr.skip(), gr.skip()]
    try:
        rule(product.settings, name).check(name, value)
    except SettingsError as error:
        text = html.escape(i18n.error_message(language, error, product), quote=False)
        message = f'<p role="alert">{text}</p>'
        return [gr.update(value=kept or None), gr.skip(), message]
    return [gr.skip(), str(value) if isinstance(value, Path) else "", ""]


def uploaded(value: Any) -> Any:
    """Returns the path of a file as Gradio describes it, or its `data:` address.

    Only files in Gradio's own folder count, which are those that somebody has uploaded. Any other
    value is returned as it is.
    """
    if not isinstance(value, dict):
        return value
    path, address = value.get("path"), value.get("url")
    if isinstance(address, str) and pictures.is_address(address):
        return address
    return Path(str(path)) if _is_uploaded(path) else value


def _is_uploaded(path: Any) -> bool:
    """Returns whether a value is the path of a file in Gradio's own folder."""
    try:
        return isinstance(path, str) and bool(path) and is_in_or_equal(path, get_upload_folder())
    except (OSError, ValueError):  # no path that there can be
        return False


def with_uploads(settings: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of settings with uploaded files as paths."""
    return {n: uploaded(v) if is_picture(settings, n) else v for n, v in values.items()}
