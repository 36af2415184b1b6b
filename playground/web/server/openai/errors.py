"""Errors in OpenAI's form: {"error": {"message": …, "type": …, "param": …, "code": …}}, each with its status.

At /v1/messages they have Anthropic's form: {"type": "error", "error": {"type": …, "message": …}}. A client repeats a
request by itself after 408, 409, 429 and 500 or more, unless `x-should-retry` says otherwise.
"""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import ValidationError
from starlette.responses import JSONResponse

from playground.app.programs.service import NotForThis, StoppedHere
from playground.errors import (
    BadModelFile,
    DoesNotFit,
    ModelNotFound,
    ModelStopped,
    PlaygroundError,
    PromptTooLong,
    RequestRefused,
    TemplateRefused,
    TextTooLong,
)

PREFIX: Final = "/v1"
_ANTHROPIC: Final = f"{PREFIX}/messages"
_ANTHROPIC_TYPES: Final = {
    401: "authentication_error", 404: "not_found_error", 413: "request_too_large", 503: "overloaded_error",
    500: "api_error",
}  # fmt: skip
# Pydantic's names of the forms that a field may have, which stand in the place of an error.
_FORM: Final = re.compile(r"[A-Z]|str$|bool$|list\[|dict\[|constrained-|function-|literal\[")
_BUSY: Final = ("max_replies", "max_replies_per_visitor")
_LATE: Final = ("max_wait_seconds", "max_reply_seconds")


class ApiError(Exception):
    """An answer that is an error. retry: whether the same request may succeed later."""

    def __init__(
        self, status: int, message: str, code: str | None, param: str | None = None, *, retry: bool = False, **more: Any
    ) -> None:
        super().__init__(message)
        self.status, self.retry = status, retry
        kind = "invalid_request_error" if status < 429 else "rate_limit_error" if status == 429 else "server_error"
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code, **more}}

    def body_for(self, path: str) -> dict[str, Any]:
        """In the form of the interface that has this path."""
        if not path.startswith(_ANTHROPIC):
            return self.body
        inside = self.body["error"]
        kind = _ANTHROPIC_TYPES.get(self.status, inside["type"])
        return {"type": "error", "error": {"type": kind, "message": inside["message"]}}

    def response(self, path: str = PREFIX) -> JSONResponse:
        headers = {"x-should-retry": "true" if self.retry else "false"}
        if self.status in (429, 503):
            headers["retry-after"] = "5"
        return JSONResponse(self.body_for(path), self.status, headers)


def api_error(error: Exception) -> ApiError:
    """The answer to an error of the playground, or to a body that cannot be read."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ValidationError):
        found = error.errors(include_url=False, include_input=False)
        innermost = max(found, key=lambda one: len(one["loc"]))  # of the forms that a field may have, the one meant
        place = ".".join(str(part) for part in innermost["loc"] if not _FORM.match(str(part)))
        words = innermost["msg"].removeprefix("Value error, ")
        return ApiError(400, f"{place or 'The body'}: {words}.", "invalid_value", place or None)
    if not isinstance(error, PlaygroundError):
        return ApiError(500, f"The playground failed: {type(error).__name__}.", "internal_error")
    text = str(error)
    if isinstance(error, PromptTooLong):
        return ApiError(
            400, text, "context_length_exceeded", "messages",
            n_prompt_tokens=error.prompt_tokens, n_ctx=error.context_size,
        )  # fmt: skip
    if isinstance(error, TextTooLong):
        return ApiError(
            400, text, "context_length_exceeded", "input",
            n_prompt_tokens=error.text_tokens, n_ctx=error.context_size,
        )  # fmt: skip
    if isinstance(error, NotForThis):
        return ApiError(400, text, "model_cannot_do_this", "model")
    if isinstance(error, RequestRefused):
        return _refused(error, text)
    if isinstance(error, StoppedHere):
        return ApiError(503, text, "stopped_on_the_page")
    if isinstance(error, ModelNotFound):
        return ApiError(404, text, "model_not_found", "model")
    if isinstance(error, DoesNotFit):
        return ApiError(400, text, "model_does_not_fit", "model")
    if isinstance(error, BadModelFile):
        return ApiError(500, text, "bad_model_file")
    if isinstance(error, TemplateRefused):
        return ApiError(400, text, "chat_template_error", "messages")
    if isinstance(error, ModelStopped):
        return ApiError(503, text, "model_stopped", retry="starts it again" in text)
    return ApiError(400, text, "bad_request")


def _refused(error: RequestRefused, text: str) -> ApiError:
    if error.setting in _BUSY:
        return ApiError(429, text, "rate_limit_exceeded", retry=True)
    if error.setting in _LATE or "shutting down" in text:
        return ApiError(503, text, "unavailable")
    return ApiError(400, text, error.setting or "invalid_value")
