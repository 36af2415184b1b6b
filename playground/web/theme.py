"""The look of the page for Gradio: colours, fonts, and the arguments of `launch` that concern the look.

A paper-like neutral and one accent colour, petrol. The colours of the verdicts and of the memory bar are in
assets/theme.css, the comparison's own in assets/compare.css. Text has a contrast of at least 4.5:1 in light and dark
mode. Nothing is loaded from the network: the fonts are in Gradio's own files, where IBM Plex is complete in Regular
and Bold only.
"""

from __future__ import annotations

from typing import Any, Final

import gradio as gr
from gradio.themes.utils.colors import Color

from playground.resources import asset

# Eleven steps each, from light to dark: 50, 100, 200 … 900, 950.
PETROL: Final = Color(
    *("#eef6f8", "#d9eaee", "#b3d6de", "#83bac7", "#4e97a8", "#25738a"),
    *("#1a6476", "#0f5465", "#0c4452", "#09353f", "#05222a"),
    name="petrol",
)
PAPER: Final = Color(
    *("#faf9f6", "#f3f2ee", "#e6e4de", "#d3d0c8", "#a8a49a", "#7c786e"),
    *("#625e56", "#45413a", "#2b2925", "#1e1d1a", "#171614"),
    name="paper",
)


def playground_theme() -> gr.themes.Base:
    """Gradio's base theme in the playground's colours, with borders instead of shadows."""
    plex, plex_mono = "IBM Plex Sans", "IBM Plex Mono"
    theme = gr.themes.Base(
        primary_hue=PETROL,
        secondary_hue=PETROL,
        neutral_hue=PAPER,
        text_size=gr.themes.sizes.text_md,
        spacing_size=gr.themes.sizes.spacing_md,
        radius_size=gr.themes.sizes.radius_md,
        font=(gr.themes.LocalFont(plex, weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif"),
        font_mono=(gr.themes.LocalFont(plex_mono, weights=(400, 700)), "ui-monospace", "monospace"),
    )
    return theme.set(**_SURFACES, **_TEXT, **_CONTROLS, **_BUTTONS)


# A model's reply may contain a picture or a frame of another server, which the page must not fetch.
ONLY_OWN_PICTURES: Final = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"img-src 'self' data: blob:; media-src 'self' data: blob:; frame-src 'none'; object-src 'none'\">"
)


def launch_look() -> dict[str, Any]:
    """The arguments of `launch(...)` that concern the look."""
    return {
        "theme": playground_theme(),
        "css_paths": [asset("theme.css"), asset("compare.css"), asset("tools.css")],
        "favicon_path": asset("logo.svg"),
        "footer_links": [],
        "head": ONLY_OWN_PICTURES,
    }


_SURFACES: Final[dict[str, str]] = {
    "body_background_fill": "*neutral_50",
    "body_background_fill_dark": "*neutral_950",
    "background_fill_primary": "white",
    "background_fill_primary_dark": "*neutral_900",
    "background_fill_secondary": "*neutral_100",
    "background_fill_secondary_dark": "*neutral_800",
    "block_background_fill": "white",
    "block_background_fill_dark": "*neutral_900",
    "block_border_color": "*neutral_200",
    "block_border_color_dark": "#35332e",
    "border_color_primary": "*neutral_200",
    "border_color_primary_dark": "#35332e",
    "block_border_width": "1px",
    "block_shadow": "none",
    "block_shadow_dark": "none",
    "block_radius": "12px",
    "panel_border_width": "0px",
    "color_accent": "*primary_700",
    "color_accent_soft": "*primary_50",
    "color_accent_soft_dark": "#1d3339",
    "border_color_accent": "*primary_600",
    "border_color_accent_dark": "*primary_300",
    "code_background_fill": "*neutral_100",
    "code_background_fill_dark": "*neutral_800",
    "shadow_drop": "none",
    "shadow_drop_lg": "0 8px 28px rgb(30 28 24 / 12%)",
    "layout_gap": "16px",
}
_TEXT: Final[dict[str, str]] = {
    "body_text_color": "#1f1d1a",
    "body_text_color_dark": "#eceae4",
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "#aaa69c",
    "block_info_text_color": "*neutral_600",
    "block_info_text_color_dark": "#aaa69c",
    "block_label_text_color": "*neutral_700",
    "block_label_text_color_dark": "#d3d0c8",
    "block_title_text_color": "#1f1d1a",
    "block_title_text_color_dark": "#eceae4",
    "block_title_text_weight": "700",
    "block_title_text_size": "*text_sm",
    "accordion_text_color": "#1f1d1a",
    "accordion_text_color_dark": "#eceae4",
    "link_text_color": "*primary_700",
    "link_text_color_dark": "*primary_300",
    "link_text_color_hover": "*primary_800",
    "link_text_color_hover_dark": "*primary_200",
    "link_text_color_visited": "*primary_700",
    "link_text_color_visited_dark": "*primary_300",
    "link_text_color_active": "*primary_800",
    "link_text_color_active_dark": "*primary_200",
    "chatbot_text_size": "*text_lg",
}
_CONTROLS: Final[dict[str, str]] = {
    "input_background_fill": "white",
    "input_background_fill_dark": "*neutral_900",
    "input_border_color": "#8c887e",  # the edge of a control needs a contrast of 3:1
    "input_border_color_dark": "#7a766c",
    "input_border_color_focus": "*primary_700",
    "input_border_color_focus_dark": "*primary_300",
    "input_border_width": "1px",
    "input_placeholder_color": "#6b675e",
    "input_placeholder_color_dark": "#a09c92",
    "input_radius": "8px",
    "input_shadow": "none",
    "input_shadow_focus": "0 0 0 3px *primary_100",
    "input_shadow_focus_dark": "0 0 0 3px #1d3339",
    "slider_color": "*primary_700",
    "slider_color_dark": "*primary_400",
    "checkbox_background_color_selected": "*primary_700",
    "checkbox_background_color_selected_dark": "*primary_500",
    "checkbox_border_color": "#8c887e",
    "checkbox_border_color_dark": "#7a766c",
    "checkbox_border_color_selected": "*primary_700",
    "checkbox_border_color_selected_dark": "*primary_400",
    "checkbox_label_background_fill": "transparent",
    "checkbox_label_background_fill_dark": "transparent",
    "loader_color": "*primary_700",
    "loader_color_dark": "*primary_300",
    "error_text_color": "#9b2422",
    "error_text_color_dark": "#f4a8a2",
    "error_border_color": "#9b2422",
    "error_border_color_dark": "#f4a8a2",
}
_BUTTONS: Final[dict[str, str]] = {
    "button_border_width": "1px",
    "button_transition": "background-color .12s ease, border-color .12s ease",
    "button_large_radius": "10px",
    "button_small_radius": "8px",
    "button_medium_radius": "10px",
    "button_large_text_weight": "700",
    "button_medium_text_weight": "700",
    "button_small_text_weight": "400",
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_dark": "*primary_500",
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_background_fill_hover_dark": "*primary_600",
    "button_primary_border_color": "*primary_700",
    "button_primary_border_color_dark": "*primary_500",
    "button_primary_text_color": "white",
    "button_primary_text_color_dark": "white",
    "button_secondary_background_fill": "white",
    "button_secondary_background_fill_dark": "*neutral_900",
    "button_secondary_background_fill_hover": "*neutral_100",
    "button_secondary_background_fill_hover_dark": "*neutral_800",
    "button_secondary_border_color": "*neutral_300",
    "button_secondary_border_color_dark": "#4a4740",
    "button_secondary_text_color": "#1f1d1a",
    "button_secondary_text_color_dark": "#eceae4",
    "button_cancel_background_fill": "white",
    "button_cancel_background_fill_dark": "*neutral_900",
    "button_cancel_background_fill_hover": "#fbe6e3",
    "button_cancel_background_fill_hover_dark": "#421b1a",
    "button_cancel_border_color": "#9b2422",
    "button_cancel_border_color_dark": "#f4a8a2",
    "button_cancel_text_color": "#9b2422",
    "button_cancel_text_color_dark": "#f4a8a2",
    "button_cancel_text_color_hover": "#9b2422",
    "button_cancel_text_color_hover_dark": "#f4a8a2",
}
