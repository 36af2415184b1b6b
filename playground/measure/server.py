"""Measures a server's model itself over its OpenAI interface, so that it stands beside the levels as a row of its own.

Its abilities are the same tasks, with the tools given as the interface has them. Its speed is what arrives here, or
what the server says of it where that agrees (engine/remote/engine.py): a network takes its share. Its file, its memory
and its quantization are known to its owner only.
"""

from __future__ import annotations

from collections.abc import Generator
from statistics import fmean, stdev
from typing import Any, Final

from playground.engine.protocol import Finished
from playground.engine.remote.engine import RemoteEngine
from playground.engine.remote.protocol import RemoteRequest
from playground.engine.remote.registry import RemoteLease, ServerRegistry
from playground.engine.timings import Timings
from playground.errors import ModelNotFound, RemoteProblem
from playground.llama.sampling_extras import GREEDY
from playground.measure.speed import PROSE
from playground.steps import Steps

Step = tuple[str, float, str]  # as measure/run.py yields them
_LETTERS_A_TOKEN: Final = 4.5  # of English prose, for a prompt of about the wanted length
_REQUEST: Final = "Go on with this story, as long as you can."


def no_such_model(model: str) -> ModelNotFound:
    return ModelNotFound(
        f"{model[:100]} is on no server that is known here.", "Add its server again, or choose another."
    )


def lease_server_model(servers: ServerRegistry, reference: str) -> RemoteLease:
    """reference: `id@server`. Raises ModelNotFound for an unknown server, RemoteProblem for one that is gone."""
    model = servers.find_model(reference)
    if model is None:
        raise no_such_model(reference)
    return Steps(servers.lease_model(model)).finish()


def server_speed(
    engine: RemoteEngine, prompt_tokens: int, generated_tokens: int, repeats: int, stage: str
) -> Generator[Step, None, dict[str, Any]]:
    """How fast it writes, and how fast it reads if the server says so; a first run warms up and does not count.

    Yields progress; returns the figures by the names of those of a level. Each run begins with other words, so that
    nothing of it is in a cache. Raises RemoteProblem where no speed can be seen.
    """
    prose = PROSE * (int(prompt_tokens * _LETTERS_A_TOKEN) // len(PROSE) + 1)
    asked = {"pp": prose[: int(prompt_tokens * _LETTERS_A_TOKEN)], "tg": PROSE.partition(".")[0]}
    runs: dict[str, list[tuple[float, int]]] = {"pp": [], "tg": []}
    for number in range(repeats + 1):
        for place, (short, text) in enumerate(asked.items()):
            step = stage, (number + place / 2) / (repeats + 1), ""
            question = f"{number * 7919 + 17} tales. {text}\n\n{_REQUEST}"
            timings = yield from _timings_of(engine, question, generated_tokens, step)
            speed = timings.prompt_speed if short == "pp" else timings.generation_speed
            tokens = timings.prompt_tokens if short == "pp" else timings.generated_tokens
            if number and speed:
                runs[short].append((speed, tokens or 0))
    if not runs["tg"]:
        raise RemoteProblem(
            f"{engine.name} sent its replies all at once or in a moment, so their speed cannot be seen.",
            "Its abilities can be measured.",
        )
    figures: dict[str, Any] = {}
    for short, found in runs.items():
        speeds = [speed for speed, _ in found]
        figures |= {
            f"{short}_tokens_per_second": fmean(speeds) if speeds else None,
            f"{short}_deviation": stdev(speeds) if len(speeds) > 1 else None,
            f"{short}_tokens": fmean(tokens for _, tokens in found) if found else None,
            f"{short}_disturbed": False,
        }
    return figures


def _timings_of(engine: RemoteEngine, text: str, tokens: int, step: Step) -> Generator[Step, None, Timings]:
    """Yields while the server writes: the moments at which it can be closed."""
    with engine.start_reply(RemoteRequest([{"role": "user", "content": text}], GREEDY, tokens, thinks=False)) as stream:
        for event in stream:
            if isinstance(event, Finished):
                return event.timings
            yield step
    raise AssertionError("a reply that ends without its last event raises an error")
