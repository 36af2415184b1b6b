"""What a messenger or a social network shows of a link to the page: its title, a sentence and a picture."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from playground.resources import asset
from playground.web.gradio_private import replace_link_tags

PICTURE: Final = "link_card.png"  # in assets/, written by scripts/take_pictures.py
WIDTH, HEIGHT = 1200, 630  # pixels, the size that the readers of these tags ask for
TITLE: Final = "GGUF playground"
DESCRIPTION: Final = (
    "How few bits can a language model lose before it stops making sense? Put two quantization levels side by side, "
    "and see their memory, speed and answers."
)
# Gradio fills in the address of the page as its visitors see it, behind a proxy too: these tags need whole addresses.
_PICTURE_ADDRESS: Final = "{{ config['root'] }}/" + PICTURE


def link_card_routes() -> list[BaseRoute]:
    """The route of the picture; the page then names it in its tags."""
    replace_link_tags({
        "og:type": "website",
        "og:title": TITLE,
        "og:description": DESCRIPTION,
        "og:image": _PICTURE_ADDRESS,
        "og:image:width": str(WIDTH),
        "og:image:height": str(HEIGHT),
        "og:image:alt": "One question, answered at two quantization levels side by side.",
        "twitter:card": "summary_large_image",
    })  # fmt: skip

    def picture(request: Request) -> Response:
        return FileResponse(asset(PICTURE), media_type="image/png")

    return [Route(f"/{PICTURE}", picture)]
