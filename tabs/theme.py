"""The theme of the studio: colours and fonts, light and dark."""

from __future__ import annotations

import gradio as gr
from gradio.themes.utils.colors import Color

# Only fonts of the visitor's system, so that the page downloads none.
_FONTS = [
    "Inter",
    "system-ui",
    "Segoe UI",
    "Roboto",
    "PingFang SC",
    "Microsoft YaHei",
    "Noto Sans CJK SC",
    "sans-serif",
]
_MONOSPACE = ["ui-monospace", "Menlo", "Consolas", "monospace"]

_TEAL = Color(
    name="studio-teal",
    c50="#eef8f6",
    c100="#d5eee9",
    c200="#aedfd6",
    c300="#7cc9bd",
    c400="#47ab9f",
    c500="#2a8f84",
    c600="#1f736b",
    c700="#1c5c57",
    c800="#1a4946",
    c900="#183d3b",
    c950="#0a2423",
)
_INK = Color(
    name="studio-ink",
    c50="#faf9f6",
    c100="#f3f1ec",
    c200="#e6e2da",
    c300="#d1cbc0",
    c400="#a39c90",
    c500="#6f6a61",
    c600="#57534c",
    c700="#413e39",
    c800="#2a2826",
    c900="#1c1b1a",
    c950="#121110",
)


_VARIABLES = {
    "body_background_fill": "*neutral_50",
    "body_background_fill_dark": "*neutral_950",
    "body_text_color": "*neutral_800",
    "body_text_color_dark": "*neutral_100",
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "*neutral_300",
    "background_fill_primary": "#ffffff",
    "background_fill_primary_dark": "*neutral_900",
    "background_fill_secondary": "*neutral_100",
    "background_fill_secondary_dark": "*neutral_800",
    "block_background_fill": "#ffffff",
    "block_background_fill_dark": "*neutral_900",
    "block_border_width": "1px",
    "block_border_color": "*neutral_200",
    "block_border_color_dark": "*neutral_800",
    "block_info_text_color": "*neutral_600",
    "block_info_text_color_dark": "*neutral_300",
    "block_label_text_color": "*neutral_700",
    "block_label_text_color_dark": "*neutral_200",
    "block_title_text_color": "*neutral_800",
    "block_title_text_color_dark": "*neutral_100",
    "block_title_text_weight": "600",
    "block_shadow": "none",
    "border_color_primary": "*neutral_200",
    "border_color_primary_dark": "*neutral_700",
    "border_color_accent": "*primary_500",
    "border_color_accent_dark": "*primary_400",
    "color_accent": "*primary_600",
    "link_text_color": "*primary_700",
    "link_text_color_dark": "*primary_300",
    "input_background_fill": "*neutral_50",
    "input_background_fill_dark": "*neutral_950",
    "input_border_color": "*neutral_300",
    "input_border_color_dark": "*neutral_700",
    "input_border_color_focus": "*primary_500",
    "input_border_color_focus_dark": "*primary_400",
    "button_primary_background_fill": "*primary_600",
    "button_primary_background_fill_hover": "*primary_700",
    "button_primary_background_fill_dark": "*primary_500",
    "button_primary_background_fill_hover_dark": "*primary_400",
    "button_primary_text_color": "#ffffff",
    "button_primary_text_color_dark": "#ffffff",
    "button_secondary_background_fill": "*neutral_100",
    "button_secondary_background_fill_hover": "*neutral_200",
    "button_secondary_background_fill_dark": "*neutral_800",
    "button_secondary_background_fill_hover_dark": "*neutral_700",
    "button_secondary_text_color": "*neutral_800",
    "button_secondary_text_color_dark": "*neutral_100",
    "slider_color": "*primary_600",
    "slider_color_dark": "*primary_400",
}
"""Variables of Gradio's theme; `*` takes a colour from the theme's own."""


def theme() -> gr.themes.Base:
    """Returns Gradio's base theme in the studio's colours, light and dark."""
    return gr.themes.Base(
        primary_hue=_TEAL,
        secondary_hue=_TEAL,
        neutral_hue=_INK,
        radius_size=gr.themes.sizes.radius_md,
        font=_FONTS,
        font_mono=_MONOSPACE,
    ).set(**_VARIABLES)
