"""Asks a loaded model one prompt of a set, greedily and reproducibly, so that a second run gives the same answer."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import Any

from playground.chat.answer_checks import check_answer
from playground.chat.conversation import Conversation, stream_reply
from playground.chat.template.thinking import ThinkingChoice
from playground.engine.local.client import LocalEngine
from playground.engine.protocol import Finished
from playground.llama.sampling_extras import GREEDY
from playground.measure.answers.prompts import AnsweredPrompt

AskedAnswer = tuple[dict[str, Any], dict[str, Any]]  # the figures of a Measurement, and its one detail


def ask_prompt(
    engine: LocalEngine, number: int, prompt: AnsweredPrompt, most_tokens: int | None = None
) -> Generator[None, None, AskedAnswer]:
    """Yields while the model writes. A model that can think first is asked not to. Raises what the engine raises.

    number: of the prompt in its set, from 1. most_tokens: of the answer, if fewer than the prompt's own.
    """
    conversation = Conversation(system=prompt.system).with_question(prompt.text)
    tokens = min(prompt.tokens, most_tokens or prompt.tokens)
    update, finished = None, None
    with closing(
        stream_reply(engine, conversation, GREEDY, tokens, thinking=ThinkingChoice(switch=False), reproducible=True)
    ) as reply:
        for update in reply:
            finished = next((event for event in update.events if isinstance(event, Finished)), finished)
            yield
    answer = update.message.content.strip() if update else ""
    timings = finished.timings if finished else None
    figures = {
        "tokens": timings.generated_tokens if timings else None,
        "tokens_per_second": timings.generation_speed if timings else None,
        "disturbed": timings.disturbed if timings else False,
    }
    passed = [{"label": check.label, "passed": check.passed} for check in check_answer(answer, prompt.checks)]
    reason = finished.reason if finished else ""
    return figures, {
        "task": number, "system": prompt.system, "prompt": prompt.text, "answer": answer, "finish_reason": reason,
        "checks": passed,
    }  # fmt: skip
