"""Uploaded pictures: the page and the API pass them on unread, for `pipelines.core.pictures`."""

from __future__ import annotations

from abc import ABCMeta
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData
from gradio.utils import get_upload_folder, is_in_or_equal

from pipelines.core.rules import is_picture


class WithoutStub(type(gr.Image)):
    """Makes a component class without the stub file that Gradio writes beside its source."""

    def __new__(cls, name: str, bases: tuple[type, ...], attributes: dict[str, Any]) -> WithoutStub:
        return ABCMeta.__new__(cls, name, bases, attributes)


class PictureUpload(gr.Image, metaclass=WithoutStub):
    """Like `gr.Image`, but events get the path of the uploaded file; nothing is decoded."""

    is_template = True  # the page shows it as its parent

    def preprocess(self, payload: ImageData | None) -> Any:
        """Returns the path of the file, or its `data:` address; empty for none."""
        if payload is None:
            return ""
        is_address = payload.url is not None and payload.url.startswith("data:")
        return payload.url if is_address else uploaded(payload.model_dump())


def picture_upload(**options: Any) -> gr.Image:
    """Returns the control of a setting that is a picture."""
    return PictureUpload(
        image_mode=None,
        sources=["upload"],
        format="png",  # lossless, so that a restored run has the same picture
        height=120,
        **options,
    )


def uploaded(value: Any) -> Any:
    """Returns the path of a file as Gradio describes it; any other value is returned as it is.

    Only files in Gradio's own folder count, which are those that somebody has uploaded.
    """
    if not isinstance(value, dict):
        return value
    path = value.get("path")
    try:
        if isinstance(path, str) and is_in_or_equal(path, get_upload_folder()):
            return Path(path)
    except (OSError, ValueError):  # no path that there can be
        pass
    return value


def with_uploads(settings: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of settings with uploaded files as paths."""
    return {n: uploaded(v) if is_picture(settings, n) else v for n, v in values.items()}
