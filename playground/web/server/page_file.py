"""The head of the page's own file: what other sites show of a link to it, and what keeps it still while it opens."""

from __future__ import annotations

from typing import Final

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from playground.resources import asset
from playground.web.gradio_private import replace_link_tags
from playground.web.html.templates import render
from playground.web.server.page_scripts import page_scripts_route

PICTURE: Final = "link_card.png"  # in assets/, written by scripts/take_pictures.py
WIDTH, HEIGHT = 1200, 630  # pixels, the size that the readers of these tags ask for
TITLE: Final = "GGUF playground"
DESCRIPTION: Final = (
    "How few bits can a language model lose before it stops making sense? Put two quantization levels side by side, "
    "and see their memory, speed and answers."
)
_FONTS: Final = ("IBMPlexSans-Regular", "IBMPlexSans-Bold", "IBMPlexMono-Regular", "IBMPlexMono-Bold")
_TAGS: Final = (
    ("og:type", "website"),
    ("og:title", TITLE),
    ("og:description", DESCRIPTION),
    # A whole address is asked for. Gradio fills in the one by which visitors reach the page, behind a proxy too.
    ("og:image", "{{ config.root }}/" + PICTURE),
    ("og:image:width", str(WIDTH)),
    ("og:image:height", str(HEIGHT)),
    ("og:image:alt", "One question, answered at two quantization levels side by side."),
    ("twitter:card", "summary_large_image"),
)


def page_file_routes() -> list[BaseRoute]:
    """The routes of the picture, which the page then names in its tags, and of the page's scripts."""
    scripts = {name: Markup(asset(f"js/{name}.js").read_text(encoding="utf-8")) for name in ("theme", "early_press")}
    replace_link_tags(render("page_file.html#head", title=TITLE, tags=_TAGS, fonts=_FONTS, **scripts))

    def picture(request: Request) -> Response:
        return FileResponse(asset(PICTURE), media_type="image/png")

    return [Route(f"/{PICTURE}", picture), page_scripts_route()]
