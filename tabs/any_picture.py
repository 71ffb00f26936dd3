"""A picture in place of a visitor's, for settings that are only right with one."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

from PIL import Image

from pipelines.core import images
from pipelines.core.errors import SettingsError
from pipelines.core.rules import is_picture, validate

_SIDE_PX, _STRIPE_PX = 1024, 8  # as large as one can be, and striped finer than a part to edit


def with_any_pictures(settings: Any) -> Any:
    """Returns checked settings; if they are only right with pictures, with any that there are.

    The time of a run does not depend on its pictures.

    Raises:
        SettingsError: if a setting is wrong.
    """
    try:
        return validate(settings)
    except SettingsError:
        names = [f.name for f in dataclasses.fields(settings) if is_picture(settings, f.name)]
        if not names:
            raise
        return validate(dataclasses.replace(settings, **dict.fromkeys(names, _any_picture())))


@cache
def _any_picture() -> str:
    """Returns a picture, also a mask, that has black and white wherever one may look."""
    stripes = bytes(255 * (x // _STRIPE_PX % 2) for x in range(_SIDE_PX)) * _SIDE_PX
    return images.to_data_uri(Image.frombytes("L", (_SIDE_PX, _SIDE_PX), stripes))
