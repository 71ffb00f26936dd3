"""The products of the studio: colour guidance, text guidance and digits, one module each."""

from __future__ import annotations

from pipelines.products.settings import ColorSettings, DigitsSettings, TextSettings
from pipelines.runs import provenance

provenance.PRODUCTS.update(color=ColorSettings, text=TextSettings, digits=DigitsSettings)
