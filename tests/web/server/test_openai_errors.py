"""Which status and code each failure has, so that clients repeat what may succeed and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from playground.app.programs.service import StoppedHere
from playground.errors import (
    BadModelFile,
    DoesNotFit,
    ModelStopped,
    PlaygroundError,
    PromptTooLong,
    RequestRefused,
    TemplateRefused,
)
from playground.web.server.openai.bodies import ChatBody
from playground.web.server.openai.errors import api_error

SUM = [{"role": "user", "content": "What is 2+2?"}]
SENTENCE = "It needs 5.3 GiB, and 4.0 GiB are free. Choose a smaller level."


@pytest.mark.parametrize(
    ("body", "place", "words"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0.type", "'text'"),
        ({"messages": [7]}, "messages.0", "send a JSON object"),
        ({"messages": [{"role": "user"}]}, "messages.0", "a message has to have a content"),
        ({"messages": SUM, "tool_choice": {"type": "function"}}, "tool_choice.function", "Field required"),
        ({"messages": SUM, "stop": 5}, "stop", "valid string"),
        ([], None, "The body: send a JSON object."),
    ],
)
def test_of_the_forms_that_a_field_may_have_the_one_that_is_meant_is_told(
    body: Any, place: str | None, words: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        ChatBody.model_validate_json(json.dumps(body))
    error = api_error(refused.value).body["error"]
    assert error["param"] == place and words in error["message"]


@pytest.mark.parametrize(
    ("error", "status", "code", "retry"),
    [
        (DoesNotFit(SENTENCE), 400, "model_does_not_fit", "false"),
        (PromptTooLong(9000, 8192), 400, "context_length_exceeded", "false"),
        (RequestRefused("Full.", setting="max_replies"), 429, "rate_limit_exceeded", "true"),
        (RequestRefused("Too long a wait.", setting="max_wait_seconds"), 503, "unavailable", "false"),
        (RequestRefused("Too long.", setting="max_message_characters"), 400, "max_message_characters", "false"),
        (ModelStopped("It died.", "The next message starts it again."), 503, "model_stopped", "true"),
        (ModelStopped("It died.", "Choose another file."), 503, "model_stopped", "false"),
        (BadModelFile("No model."), 500, "bad_model_file", "false"),
        (TemplateRefused("No."), 400, "chat_template_error", "false"),
        (StoppedHere("Stopped."), 503, "stopped_on_the_page", "false"),
        (PlaygroundError("Odd."), 400, "bad_request", "false"),
        (ValueError("inside"), 500, "internal_error", "false"),
    ],
)
def test_each_failure_has_its_status_and_says_whether_to_repeat(
    error: Exception, status: int, code: str, retry: str
) -> None:
    answer = api_error(error)
    assert (answer.status, answer.body["error"]["code"]) == (status, code)
    assert answer.response().headers["x-should-retry"] == retry
    if isinstance(error, DoesNotFit):
        assert answer.body["error"]["message"] == SENTENCE
    assert "inside" not in str(answer.body)  # of a fault of the program, only its kind
