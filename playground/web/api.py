"""The endpoints for programs: machine, levels, plan, chat, compare; the same five are tools of the MCP server.

Names, parameters and fields are stable, and docs/api.md lists them. app/api.py does the work. Here the endpoints get
their types and descriptions, and errors become those of Gradio's clients. All other events of the page are private.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final, Literal, get_type_hints

import gradio as gr
from gradio.events import api

from playground.app.api import ApiService, StreamedComparison, StreamedReply
from playground.app.messages import log_refusal
from playground.app.records import LevelsRecord, MachineRecord, PlanRecord
from playground.errors import PlaygroundError
from playground.web.server.sessions import visitor_of

QUESTIONS_AT_ONCE: Final = 4  # of each endpoint that runs no model; the others wait in the engine's queue


def offer_api(service: ApiService, ended: Callable[[str], None]) -> None:
    """Every endpoint, inside the page's Blocks.

    ended: called with the session of each call that has ended. Gradio makes one for every call, a copy of the page.
    """
    endpoints = Endpoints(service)
    for quick in (endpoints.machine, endpoints.levels, endpoints.plan):
        api(_endpoint(service, ended, quick), api_name=quick.__name__, concurrency_limit=QUESTIONS_AT_ONCE)
    api(_endpoint(service, ended, endpoints.chat, StreamedReply), api_name="chat", concurrency_limit=None)
    api(_endpoint(service, ended, endpoints.compare, StreamedComparison), api_name="compare", concurrency_limit=None)


class Endpoints:
    """The endpoints as programs see them: Gradio publishes their names, parameters and descriptions."""

    def __init__(self, service: ApiService) -> None:
        self._service = service

    def machine(self, request: gr.Request) -> MachineRecord:
        """What this computer has for a model: memory in bytes, cores, and what limits them."""
        return self._service.machine()

    def levels(self, model: str, request: gr.Request, context: int | None = None) -> LevelsRecord:
        """The quantization levels of a model, each with its size and whether it fits this computer.

        Args:
            model: "starter", the name of a model here, or a repository of the Hugging Face Hub as owner/repo.
            context: the context size in tokens that the verdicts are for; left out, 4096.
        """
        return self._service.levels(model, context)

    def plan(
        self,
        model: str,
        request: gr.Request,
        context: int | None = None,
        kv_type: Literal["f16", "q8_0", "q4_0"] = "f16",
        slots: int | None = None,
        device: str | None = None,
        gpu_layers: int | None = None,
        cpu_moe: int | None = None,
    ) -> PlanRecord:
        """The memory a model needs, in bytes, before it is loaded, and the largest context that fits.

        Args:
            model: "starter", a model here such as owner/repo:Q4_K_M, or one on the Hugging Face Hub.
            context: the context size in tokens; left out, 4096.
            kv_type: how the KV cache is stored.
            slots: chats at once; left out, as models are loaded here.
            device: "auto", "cpu", or the name of a GPU as machine gives it; left out, auto.
            gpu_layers: how many layers are on the GPU; left out, as many as fit.
            cpu_moe: of how many layers the experts stay in RAM, for a mixture of experts; left out, as few as possible.
        """
        return self._service.plan(model, context, kv_type, slots, device, gpu_layers, cpu_moe)

    def chat(
        self,
        prompt: str,
        request: gr.Request,
        model: str = "starter",
        system: str = "",
        history: list[dict[str, Any]] | None = None,
        context: int | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        device: str | None = None,
        gpu_layers: int | None = None,
        cpu_moe: int | None = None,
    ) -> Iterator[StreamedReply]:
        """Ask a model on this computer, and get its answer as it is written; the last record has the timings.

        Args:
            prompt: the question.
            model: "starter", or a model here such as owner/repo:Q4_K_M (levels lists them).
            system: instructions for the model.
            history: the chat so far, as a list of {"role": "user" or "assistant", "content": text}.
            context: the context size in tokens; left out, 4096.
            max_tokens: the longest answer, in tokens.
            temperature: 0 always takes the likeliest token; left out, 0.7.
            seed: the same seed gives the same answer.
            device: "auto", "cpu", or the name of a GPU as machine gives it; left out, auto.
            gpu_layers: how many layers are on the GPU; left out, as many as fit.
            cpu_moe: of how many layers the experts stay in RAM, for a mixture of experts; left out, as few as possible.
        """
        yield from self._service.chat(
            visitor_of(request, self._service.runs, "api"), model, prompt=prompt, system=system, history=history,
            context=context, max_tokens=max_tokens, temperature=temperature, seed=seed, device=device,
            gpu_layers=gpu_layers, cpu_moe=cpu_moe,
        )  # fmt: skip

    def compare(
        self,
        prompt: str,
        model_a: str,
        model_b: str,
        request: gr.Request,
        at_once: bool = False,
        system: str = "",
        context: int | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        device_a: str | None = None,
        device_b: str | None = None,
    ) -> Iterator[StreamedComparison]:
        """Ask two models, or two levels of one, the same question; the last record says where their answers part.

        Args:
            prompt: the question.
            model_a: a model here, as for chat.
            model_b: the other one.
            at_once: both at the same time, on shared cores; else one after the other, each at its own speed.
            system: instructions for both.
            context: the context size in tokens; left out, 4096.
            max_tokens: the longest answer, in tokens.
            temperature: 0 always takes the likeliest token; left out, 0.7.
            seed: the same seed gives the same answers.
            device_a: where model_a runs: "auto", "cpu", or the name of a GPU as machine gives it; left out, auto.
            device_b: where model_b runs.
        """
        yield from self._service.compare(
            visitor_of(request, self._service.runs, "api"), (model_a, model_b), at_once, (device_a, device_b),
            prompt=prompt, system=system, context=context, max_tokens=max_tokens, temperature=temperature, seed=seed,
        )  # fmt: skip


def _endpoint(
    service: ApiService, ended: Callable[[str], None], function: Callable[..., Any], each: type | None = None
) -> Callable[..., Any]:
    """The function with resolved types, as Gradio needs them, and with its errors as Gradio's clients expect them.

    each: the record that a stream consists of; None if the function is no stream.
    """
    if each is None:

        @wraps(function)
        def call(*values: Any) -> Any:
            with _call(service, ended, values):
                return function(*values)
    else:

        @wraps(function)
        def call(*values: Any) -> Any:
            with _call(service, ended, values):
                yield from function(*values)

    hints = get_type_hints(function)
    call.__annotations__ = {**hints, "return": each or hints["return"]}
    parameters = inspect.signature(function).parameters.values()
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [one.replace(annotation=hints[one.name]) for one in parameters],
        return_annotation=each or hints["return"],
    )
    return call


@contextmanager
def _call(service: ApiService, ended: Callable[[str], None], values: Sequence[Any]) -> Iterator[None]:
    """Turns errors into those of Gradio's clients, and reports the end of the call's session."""
    request = next((value for value in values if isinstance(value, gr.Request)), None)
    try:
        yield
    except PlaygroundError as error:
        log_refusal(error, visitor_of(request, service.runs, "api") if request else None)
        raise gr.Error(str(error), print_exception=False) from error
    finally:
        if request and request.session_hash:
            ended(str(request.session_hash))
