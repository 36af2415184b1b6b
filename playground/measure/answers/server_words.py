"""Compares levels with a server's model: would they have written the same words?

A server sends no probabilities of a text that it is given, and of its own words those of twenty tokens at most. So no
perplexity can be measured against it, and no KL divergence over the whole vocabulary. What can: the server's model
answers a set of prompts, each word its most likely one; a level then reads the same prompts with these answers, and at
each token of them, what it finds most likely is what it would have written. The share of tokens for which that is what
the server wrote is what fidelity calls the same top token, on the server's own words. Where the server sends its most
likely tokens and has the same vocabulary, the divergence over these and the sum of all others is a lower bound of that
over the whole vocabulary (engine/local/scoring/sent_tops.py).
"""

from __future__ import annotations

import uuid
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from playground.chat.conversation import Conversation, fitting_prompt, stream_reply
from playground.chat.template.thinking import ThinkingChoice
from playground.engine.local.client import LocalEngine
from playground.engine.local.lease import ModelLease
from playground.engine.local.pool import ModelPool
from playground.engine.protocol import Scored, SentTop, Token, TokenScore
from playground.engine.remote.protocol import MOST_ALTERNATIVES
from playground.engine.remote.registry import ServerRegistry
from playground.errors import RemoteProblem
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY
from playground.machine.files import unfinished_file
from playground.measure.answers.prompts import AnsweredPrompt
from playground.measure.fidelity import mean_with_error, proportion
from playground.measure.server import lease_server_model

Step = tuple[str, float, str]  # as measure/run.py yields them
Found = tuple[dict[str, Any], list[dict[str, Any]]]  # the figures of a Measurement, and its details
_SAME_VOCABULARY: Final = 0.99  # of the places at which a server of the same vocabulary is compared


@dataclass(frozen=True)
class _ServerAnswer:
    """tops: what the server found most likely at the places of the text; () where it sends nothing of it."""

    text: str
    tops: tuple[SentTop, ...]


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
        self._answers: list[_ServerAnswer] = []

    def compare_level(self, lease: ModelLease, stage: str) -> Generator[Step, None, Found]:
        """Raises RemoteProblem where the server does not answer, and what scoring raises."""
        yield from self._ask_server(stage)
        tasks: list[dict[str, Any]] = []
        scores: list[TokenScore] = []
        sent = 0
        for number, (prompt, answer) in enumerate(zip(self._prompts, self._answers, strict=True), 1):
            yield stage, (number - 1) / len(self._prompts), ""
            found = self._read_answer(lease, prompt, answer) if answer.text else []
            scores += found
            sent += len(answer.tops)
            task = {
                "task": number,
                "prompt": prompt.text,
                "answer": answer.text,
                "tokens": len(found),
                "same": sum(map(_would_write, found)),
            }
            tasks.append(task)
        if not scores:
            raise RemoteProblem(f"{self.model} answered every prompt with nothing.", "Choose another model.")
        share = proportion([_would_write(score) for score in scores])
        figures: dict[str, Any] = {
            "tokens": len(scores),
            "same_words": share.value,
            "same_words_error": share.error,
        }
        divergences = [score.kl_divergence for score in scores if score.kl_divergence is not None]
        if divergences and len(divergences) >= _SAME_VOCABULARY * sent:
            least = mean_with_error(divergences)
            figures |= {"kl_at_least": least.value, "kl_at_least_error": least.error, "kl_tokens": len(divergences)}
        return figures, tasks

    def _ask_server(self, stage: str) -> Generator[Step, None, None]:
        """Ask what has not been asked yet; the next level finds the answers there."""
        with lease_server_model(self._servers, self.model) as lease:
            while len(self._answers) < len(self._prompts):
                prompt = self._prompts[len(self._answers)]
                conversation = Conversation(system=prompt.system).with_question(prompt.text)
                tokens = min(prompt.tokens, self._most_tokens or prompt.tokens)
                update, written = None, list[Token]()
                with closing(
                    stream_reply(
                        lease.engine, conversation, GREEDY, tokens, alternatives=MOST_ALTERNATIVES,
                        interval_seconds=0.2,
                    )
                ) as reply:  # fmt: skip
                    for update in reply:
                        written += [event for event in update.events if isinstance(event, Token)]
                        yield f"{stage}: the server answers prompt {len(self._answers) + 1}", 0.0, ""
                text = update.message.content if update else ""
                self._answers.append(_ServerAnswer(text, sent_tops(text, written)))

    def _read_answer(self, lease: ModelLease, prompt: AnsweredPrompt, answer: _ServerAnswer) -> list[TokenScore]:
        """How likely this level finds each token of the answer, and how far it is from the server there."""
        engine = lease.engine
        conversation = Conversation(system=prompt.system).with_question(prompt.text)
        _, asked = fitting_prompt(engine, conversation, thinking=ThinkingChoice(switch=False))
        chosen = engine.context
        length = asked.tokens + engine.count_tokens(answer.text, ((0, len(answer.text)),))
        room = ContextParameters.for_scoring(length, chosen.kv_type, chosen.placement, chosen.v_type)
        self._pool.free_memory_for_scoring(lease, room)
        with unfinished_file(self._folder / f"{uuid.uuid4().hex}.log-probabilities") as path:
            return _scores(engine, asked.text, asked.literal, answer, path)


def _scores(
    engine: LocalEngine, prompt: str, literal: Sequence[Any], answer: _ServerAnswer, path: Path
) -> list[TokenScore]:
    with engine.start_scoring(
        prompt, answer.text, path, against_reference=False, window=None, literal=tuple(literal),
        sent_tops=answer.tops,
    ) as stream:  # fmt: skip
        return [score for event in stream if isinstance(event, Scored) for score in event.scores]


def _would_write(score: TokenScore) -> bool:
    return bool(score.top) and score.top[0].id == score.id


def sent_tops(answer: str, tokens: Sequence[Token]) -> tuple[SentTop, ...]:
    """What the server found most likely at each byte of the answer at which one of its tokens begins.

    None of an answer that came after thoughts: the server had read these, and a level does not.
    """
    whole = "".join(token.text for token in tokens)
    if whole.strip() != answer.strip():
        return ()
    byte, found = _blank_bytes(answer) - _blank_bytes(whole), list[SentTop]()  # an answer may lose its first blanks
    for token in tokens:
        if token.top and token.text and byte >= 0:
            found.append((byte, [(each.id, each.text, each.logprob) for each in token.top]))
        byte += len(token.text.encode())
    return tuple(found)


def _blank_bytes(text: str) -> int:
    """Of the blanks and line ends before the first word."""
    return len(text[: len(text) - len(text.lstrip())].encode())
