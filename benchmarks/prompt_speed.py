"""How fast a chat reads a prompt, beside llama.cpp's decode of it in one batch: same file and threads, alternating.

`--model FILE` instead of the starter. The engine's figure is that of a chat: with its pieces, sampling and events.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import llama_cpp

from benchmarks.bench import cores, ended, engine_on, median_of, report, run_main, starter
from playground.engine.local.client import LocalEngine
from playground.engine.protocol import ReplyRequest
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY
from playground.measure.speed import prompt_with_tokens

ROUNDS = 7
LENGTHS = (40, 165, 425)
ONE_BATCH = 512  # tokens, llama.cpp's own default


class OneBatch:
    """llama.cpp alone: a prompt in one llama_decode, on an empty KV cache."""

    def __init__(self, path: Path) -> None:
        parameters = llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        context: Any = llama_cpp.llama_context_default_params()
        context.n_ctx, context.n_batch, context.n_ubatch = 2048, ONE_BATCH, ONE_BATCH
        context.n_threads = context.n_threads_batch = cores()
        context.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO
        self._context = llama_cpp.llama_init_from_model(self._model, context)

    def tokens_per_second(self, text: str) -> float:
        vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        tokens = (llama_cpp.llama_token * len(text))()
        data = text.encode()
        count = llama_cpp.llama_tokenize(vocabulary, data, len(data), tokens, len(text), True, True)
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        started = time.perf_counter()
        assert llama_cpp.llama_decode(self._context, llama_cpp.llama_batch_get_one(tokens, count)) == 0
        return int(count) / (time.perf_counter() - started)


def chat_speed(engine: LocalEngine, text: str) -> float:
    with engine.start_reply(ReplyRequest(text, GREEDY, max_tokens=1, chat="speed")) as stream:
        speed = ended(list(stream)).timings.prompt_speed
    assert speed is not None
    return speed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, default=starter())
    path = parser.parse_args().model
    ratios = []
    rows = []
    peer = OneBatch(path)
    with engine_on(path, ContextParameters(2048)) as engine:
        for length in LENGTHS:
            ours: list[float] = []
            theirs: list[float] = []
            for number in range(ROUNDS + 1):
                text = prompt_with_tokens(engine, length, f"{number * 7919 + 17} tales. ")
                sides = [(ours, lambda text: chat_speed(engine, text)), (theirs, peer.tokens_per_second)]
                for speeds, measure in sides if number % 2 else reversed(sides):
                    speeds.append(measure(text))
            ratio = statistics.median(mine / other for mine, other in zip(ours[1:], theirs[1:], strict=True))
            ratios.append(ratio)
            rows.append((f"{length} tokens: a chat, tok/s", median_of(ours[1:])))
            rows.append((f"{length} tokens: one batch, tok/s", f"{median_of(theirs[1:])}; ratio {ratio:.3f}"))
    report(f"Reading a prompt: {path.name}", rows, min(ratios), "at least 0.97")


if __name__ == "__main__":
    run_main(main)
