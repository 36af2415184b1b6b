"""/v1/embeddings: texts to vectors, as numbers, or as the base64 of floats that the package `openai` asks for."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field, field_validator

from playground.app.api_values import LONGEST_REFERENCE
from playground.chat.history import HistoryLimits, checked_text
from playground.chat.programs.reply import ReplyPiece
from playground.engine.protocol import Embedded
from playground.llama.params import MOST_CONTEXT
from playground.web.server.openai.answers import AnswerForm, Json
from playground.web.server.openai.bodies import Body

MOST_TEXTS: Final = 2048  # of one request, as with OpenAI


class EmbeddingBody(Body):
    """Only texts: the numbers of tokens belong to one vocabulary, and programs send those of another model."""

    model: str = Field("", max_length=LONGEST_REFERENCE)
    input: str | Annotated[list[str], Field(min_length=1, max_length=MOST_TEXTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: None = None
    context: int | None = Field(None, ge=256, le=MOST_CONTEXT)

    @field_validator("input", mode="before")
    @classmethod
    def _only_texts(cls, value: Any) -> Any:
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, str) and part.strip() for part in parts):
            raise ValueError("send a text or a list of texts, none of them empty; numbers of tokens are not read")
        return value

    def texts(self, limits: HistoryLimits) -> list[str]:
        """Raises RequestRefused for one that is too long."""
        texts = [self.input] if isinstance(self.input, str) else self.input
        return [checked_text(text, f"Text {number}", limits) for number, text in enumerate(texts, start=1)]


class EmbeddingForm(AnswerForm):
    object = "list"
    id_prefix = "embd"

    def __init__(self, model: str, body: EmbeddingBody) -> None:
        super().__init__(model, None)
        self._as_numbers = body.encoding_format == "float"
        self._embedded: list[Embedded] = []

    def add(self, piece: ReplyPiece) -> None:
        self._embedded += piece.embedded

    def whole(self) -> Json:
        tokens = sum(one.tokens for one in self._embedded)
        data = [
            {"object": "embedding", "index": index, "embedding": self._written_vector(one.vector)}
            for index, one in enumerate(self._embedded)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": self._head["model"], "usage": usage}

    def _written_vector(self, vector: tuple[float, ...]) -> list[float] | str:
        if self._as_numbers:
            return list(vector)
        return base64.b64encode(np.array(vector, dtype="<f4").tobytes()).decode()
