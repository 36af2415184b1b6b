"""Compares levels with a server's model: would they have written the same words?

A server sends no probabilities of a text that it is given, and of its own words those of twenty tokens at most. So no
KL divergence and no perplexity can be measured against it. What can: the server's model answers a set of prompts, each
word its most likely one; a level then reads the same prompts with these answers, and at each token of them, what it
finds most likely is what it would have written. The share of tokens for which that is what the server wrote is what
fidelity calls the same top token, on the server's own words.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from playground.chat.conversation import Conversation, fitting_prompt, stream_reply
from playground.chat.template.thinking import ThinkingChoice
from playground.engine.local.client import LocalEngine
from playground.engine.local.lease import ModelLease
from playground.engine.local.pool import ModelPool
from playground.engine.protocol import Scored, TokenScore
from playground.engine.remote.registry import ServerRegistry
from playground.errors import RemoteProblem
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY
from playground.machine.files import unfinished_file
from playground.measure.answers.prompts import AnsweredPrompt
from playground.measure.fidelity import proportion
from playground.measure.server import lease_server_model

Step = tuple[str, float, str]  # as measure/run.py yields them
Found = tuple[dict[str, Any], list[dict[str, Any]]]  # the figures of a Measurement, and its details


class ServerAnswers:
    """The answers of a server's model to a set of prompts, asked for once in a run.

    model: `id@server`. folder: for temporary files. most_tokens: of an answer, if fewer than the prompt's own.
    """

    def __init__(
        self, pool: ModelPool, servers: ServerRegistry, model: str, prompts: Sequence[AnsweredPrompt], folder: Path,
        most_tokens: int | None = None,
    ) -> None:  # fmt: skip
        self._pool, self._servers, self.model, self._folder = pool, servers, model, folder
        self._prompts, self._most_tokens = prompts, most_tokens
        self._answers: list[str] = []

    def compare_level(self, lease: ModelLease, stage: str) -> Generator[Step, None, Found]:
        """Raises RemoteProblem where the server does not answer, and what scoring raises."""
        yield from self._ask_server(stage)
        tasks: list[dict[str, Any]] = []
        same: list[bool] = []
        for number, (prompt, answer) in enumerate(zip(self._prompts, self._answers, strict=True), 1):
            yield stage, (number - 1) / len(self._prompts), ""
            written = self._written_words(lease, prompt, answer) if answer else []
            same += written
            task = {
                "task": number,
                "prompt": prompt.text,
                "answer": answer,
                "tokens": len(written),
                "same": sum(written),
            }
            tasks.append(task)
        if not same:
            raise RemoteProblem(f"{self.model} answered every prompt with nothing.", "Choose another model.")
        share = proportion(same)
        return {"tokens": len(same), "same_words": share.value, "same_words_error": share.error}, tasks

    def _ask_server(self, stage: str) -> Generator[Step, None, None]:
        """Ask what has not been asked yet; the next level finds the answers there."""
        with lease_server_model(self._servers, self.model) as lease:
            while len(self._answers) < len(self._prompts):
                prompt = self._prompts[len(self._answers)]
                conversation = Conversation(system=prompt.system).with_question(prompt.text)
                tokens = min(prompt.tokens, self._most_tokens or prompt.tokens)
                update = None
                with closing(stream_reply(lease.engine, conversation, GREEDY, tokens, interval_seconds=0.2)) as reply:
                    for update in reply:  # noqa: B007 the last one has the whole answer
                        yield f"{stage}: the server answers prompt {len(self._answers) + 1}", 0.0, ""
                self._answers.append(update.message.content if update else "")

    def _written_words(self, lease: ModelLease, prompt: AnsweredPrompt, answer: str) -> list[bool]:
        """For each token of the answer, whether this level would have written it."""
        engine = lease.engine
        conversation = Conversation(system=prompt.system).with_question(prompt.text)
        _, asked = fitting_prompt(engine, conversation, thinking=ThinkingChoice(switch=False))
        chosen = engine.context
        length = asked.tokens + engine.count_tokens(answer, ((0, len(answer)),))
        room = ContextParameters.for_scoring(length, chosen.kv_type, chosen.placement, chosen.v_type)
        self._pool.free_memory_for_scoring(lease, room)
        with unfinished_file(self._folder / f"{uuid.uuid4().hex}.log-probabilities") as path:
            scores = _scores(engine, asked.text, asked.literal, answer, path)
        return [bool(score.top) and score.top[0].id == score.id for score in scores]


def _scores(engine: LocalEngine, prompt: str, literal: Sequence[Any], answer: str, path: Path) -> list[TokenScore]:
    with engine.start_scoring(
        prompt, answer, path, against_reference=False, window=None, literal=tuple(literal)
    ) as stream:
        return [score for event in stream if isinstance(event, Scored) for score in event.scores]
