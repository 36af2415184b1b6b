"""Replies that ZeroGPU's GPU writes, and what happens where it does not; the decorated function is a script here."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from playground.engine.local.client import LocalEngine
from playground.engine.local.cpu_shares import CpuShares
from playground.engine.pipe import encode_event
from playground.engine.protocol import Event, Failed, Finished, Remark, ReplyRequest, Token
from playground.engine.zerogpu.engine import ZeroGpuEngine
from playground.engine.zerogpu.gpu import ZeroGpu
from playground.engine.zerogpu.gpu_function import GpuFunction, GpuJob
from playground.errors import PlaygroundError
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY
from tests.support.scripted_engine import TIMINGS
from tests.support.zerogpu_service import libraries

PROMPT = "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n"
Asked = Callable[[GpuFunction], list[Event]]


class Refused(Exception):
    """As Gradio's error: what is to be shown is its message."""

    def __init__(self, message: str) -> None:
        super().__init__()
        self.message = message


@pytest.fixture(scope="module")
def local(starter: Path) -> Iterator[LocalEngine]:
    shares = CpuShares(1)
    engine = LocalEngine(starter, ContextParameters(512), shares)
    for _ in engine.load_model():
        pass
    yield engine
    engine.close()
    shares.close()


@pytest.fixture
def ask(local: LocalEngine, tmp_path: Path) -> Asked:
    folder = libraries(tmp_path / "libraries")

    def ask(function: GpuFunction) -> list[Event]:
        gpu = ZeroGpu(folder, "", 1, function, lambda: 3)
        engine = ZeroGpuEngine(local, gpu, 1 << 20, "anna")
        with engine.start_reply(ReplyRequest(PROMPT, GREEDY, 4)) as stream:
            return list(stream)

    return ask


def remarks(events: list[Event], *, lasting: bool = True) -> str:
    return " ".join(event.text for event in events if isinstance(event, Remark) and event.lasts is lasting)


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Token | Finished))


def token(text: str, count: int) -> Token:
    return Token(1, text, 5, count, None, count)


def test_what_the_gpu_writes_is_passed_on_with_its_time(ask: Asked) -> None:
    jobs: list[GpuJob] = []

    def write(job: GpuJob) -> Generator[bytes, None, None]:
        jobs.append(job)
        yield b""
        yield encode_event(token("Four", 1))
        yield encode_event(Finished(1, "end of text", TIMINGS, "."))

    events = ask(write)
    assert text_of(events) == "Four." and "of ZeroGPU's time" in remarks(events)
    before = remarks(events, lasting=False)
    assert (
        f"asked for {jobs[0].seconds} s" in before and "120 s without an account" in before and "3 requests" in before
    )
    assert jobs[0].context.slots == 1 and jobs[0].generate.asked.prompt == PROMPT


@pytest.mark.parametrize(
    "error", [Refused("Your quota is <b>exceeded</b> (60s requested vs. 3s left)."), OSError("no")]
)
def test_where_no_gpu_is_lent_the_processor_writes_and_the_page_says_why(ask: Asked, error: Exception) -> None:
    def refuse(job: GpuJob) -> Generator[bytes, None, None]:
        raise error
        yield b""

    events = ask(refuse)
    assert "answer" in text_of(events) and isinstance(events[-1], Finished)
    assert "lent no GPU" in remarks(events) and "processor writes" in remarks(events) and "<b>" not in remarks(events)


def test_a_model_that_the_gpu_cannot_load_is_written_by_the_processor(ask: Asked) -> None:
    def fail(job: GpuJob) -> Generator[bytes, None, None]:
        yield encode_event(Failed(1, "The device CUDA0 is not there."))

    events = ask(fail)
    assert "answer" in text_of(events) and "CUDA0 is not there. So the processor" in remarks(events)


def test_a_call_that_breaks_off_after_its_first_word_is_an_error(ask: Asked) -> None:
    def die(job: GpuJob) -> Generator[bytes, None, None]:
        yield encode_event(token("Fo", 1))
        raise Refused("GPU task aborted")

    with pytest.raises(PlaygroundError, match=r"broke the reply off: GPU task aborted\."):
        ask(die)


def test_without_llama_cpp_for_the_gpu_nothing_is_asked(local: LocalEngine, tmp_path: Path) -> None:
    def never(job: GpuJob) -> Generator[bytes, None, None]:
        raise AssertionError
        yield b""

    gpu = ZeroGpu(tmp_path / "nothing", "", 1, never, lambda: None)
    with ZeroGpuEngine(local, gpu, 1, "anna").start_reply(ReplyRequest(PROMPT, GREEDY, 4)) as stream:
        events = list(stream)
    assert "answer" in text_of(events) and "There is no llama.cpp for ZeroGPU" in remarks(events)
