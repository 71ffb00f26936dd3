"""Rules for settings: what each accepts, how it is written in texts, and how it is chosen."""

from pipelines.core.errors import SettingsError, show
from pipelines.core.rules.base import (
    MAX_SEED,
    NONE,
    RANDOM_SEED,
    Overruled,
    Rule,
    Settings,
    Suggested,
    declared,
    drawn_seed,
    is_picture,
    label_of,
    meaning_of,
    rule,
    setting,
    validate,
)
from pipelines.core.rules.color import Color, ColorOrNone, Palette, palette_entries
from pipelines.core.rules.force import in_force, is_set, off_at, overruled_by, without_effect
from pipelines.core.rules.number import OFF, Real, RealOrOff, Seed, Whole
from pipelines.core.rules.picture import Mask, Picture
from pipelines.core.rules.text import (
    MAX_PROMPT_LENGTH,
    Choice,
    DigitString,
    Prompt,
    prompt_entries,
    shown_choice,
)

__all__ = [
    "MAX_PROMPT_LENGTH",
    "MAX_SEED",
    "NONE",
    "OFF",
    "RANDOM_SEED",
    "Choice",
    "Color",
    "ColorOrNone",
    "DigitString",
    "Mask",
    "Overruled",
    "Palette",
    "Picture",
    "Prompt",
    "Real",
    "RealOrOff",
    "Rule",
    "Seed",
    "Settings",
    "SettingsError",
    "Suggested",
    "Whole",
    "declared",
    "drawn_seed",
    "in_force",
    "is_picture",
    "is_set",
    "label_of",
    "meaning_of",
    "off_at",
    "overruled_by",
    "palette_entries",
    "prompt_entries",
    "rule",
    "setting",
    "show",
    "shown_choice",
    "validate",
    "without_effect",
]
