"""Arguments of several commands: numbers, the question, and the model that answers it.

argparse turns a ValueError of a number into misuse.
"""

from __future__ import annotations

import argparse
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from playground.cli.output import ProgressLine
from playground.steps import Steps

if TYPE_CHECKING:
    from pathlib import Path

    from playground.app.services import Services
    from playground.engine.local.lease import ModelLease
    from playground.engine.local.load_queue import LoadStatus
    from playground.engine.remote.protocol import RemoteModel
    from playground.engine.remote.registry import RemoteLease
    from playground.llama.params import ContextParameters, DeviceChoice
    from playground.llama.sampling_extras import Sampling
    from playground.models.model_file import ModelFile

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

MOST_LAYERS: Final = 1024
LARGEST_CONTEXT: Final = 1 << 24  # tokens; more than any model has, and llama.cpp's bookkeeping for it takes 1 GB

Lease = TypeVar("Lease", "ModelLease", "RemoteLease")

# --- numbers ---


def tokens(text: str) -> int:
    """A number of tokens, up to the largest context; `32k` and `32K` are 32,768."""
    is_thousands = text[-1:] in "kK" and len(text) > 1
    return _between(1, int(text[:-1]) * 1024 if is_thousands else int(text), LARGEST_CONTEXT)


def slots(text: str) -> int:
    """Chats at once, as many as llama.cpp has sequences."""
    return _between(1, int(text), 64)


def repeats(text: str) -> int:
    return _between(1, int(text), 1000)


def port(text: str) -> int:
    return _between(0, int(text), 65535)


def seed(text: str) -> int:
    """32 bits, but not the highest number, with which llama.cpp draws a seed itself."""
    return _between(0, int(text), (1 << 32) - 2)


def temperature(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 10:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 (always the most likely token) and 10")
    return number


def _between(least: int, number: int, most: int) -> int:
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{number} is not between {least} and {most}")
    return number


# --- the question ---


def add_question_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-p", "--prompt", required=True, metavar="TEXT", help="the question")
    parser.add_argument("--system", default="", metavar="TEXT", help="instructions for the model")
    parser.add_argument("--context", type=tokens, metavar="N", help="context size in tokens (default: 4096)")
    parser.add_argument("--max-tokens", type=tokens, metavar="N", help="the longest answer, in tokens")
    parser.add_argument("--temperature", type=temperature, metavar="T", help="0 always takes the most likely token")
    parser.add_argument("--seed", type=seed, metavar="S", help="the same seed gives the same answer")


def chosen_sampling(arguments: argparse.Namespace) -> Sampling:
    """The arguments, and the defaults for those that are missing."""
    from playground.llama.sampling_extras import Sampling

    chosen = {"temperature": arguments.temperature, "seed": arguments.seed}
    return Sampling(**{name: value for name, value in chosen.items() if value is not None})


# --- where it runs ---


def layers(text: str) -> int:
    """A number of layers; `all` is ALL_LAYERS."""
    from playground.llama.params import ALL_LAYERS

    return ALL_LAYERS if text.lower() == "all" else _between(0, int(text), MOST_LAYERS)


def experts(text: str) -> int | None:
    """Layers whose experts stay in RAM; `auto` is None."""
    return None if text.lower() == "auto" else _between(0, int(text), MOST_LAYERS)


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", metavar="D", help="auto, cpu, or a GPU as `machine` names it")
    parser.add_argument("--gpu-layers", type=layers, metavar="N", help="layers on the GPU, or all (default: what fits)")
    parser.add_argument("--cpu-moe", type=experts, metavar="N", help="layers whose experts stay in RAM, or auto")


def chosen_device(arguments: argparse.Namespace) -> DeviceChoice:
    from playground.llama.params import DeviceChoice

    return DeviceChoice(arguments.device, arguments.gpu_layers, arguments.cpu_moe)


# --- the model ---


def find_model(
    services: Services, reference: str, context_size: int | None, device: DeviceChoice | None = None
) -> tuple[ModelFile | RemoteModel, ContextParameters | None]:
    """A model on this computer or on a server, and its context; None for a server's, which has its own.

    Raises ModelNotFound, and BadModelFile if the file is no model.
    """
    from playground.app.records import USUAL_CONTEXT
    from playground.llama.params import AUTOMATIC_CHOICE, ContextParameters

    if remote := services.remotes.find_model(reference):
        return remote, None
    file = services.library.find_file(reference)
    size = context_size or min(USUAL_CONTEXT, services.planner.trained_context(file.path))
    return file, ContextParameters(size, slots=services.settings.slots, device=device or AUTOMATIC_CHOICE)


@contextmanager
def lease_model(
    services: Services, model: ModelFile | RemoteModel, context: ContextParameters | None
) -> Iterator[ModelLease | RemoteLease]:
    """A lease, with progress on a terminal while it loads. Raises DoesNotFit, BadModelFile or RemoteProblem."""
    from playground.engine.remote.protocol import RemoteModel

    if isinstance(model, RemoteModel):
        with _finish_load(services.remotes.lease_model(model)) as remote:
            yield remote
    else:
        assert context is not None
        with lease_file(services, model.path, context) as lease:
            yield lease


@contextmanager
def lease_file(services: Services, path: Path, context: ContextParameters) -> Iterator[ModelLease]:
    with _finish_load(services.pool.lease_model(path, context)) as lease:
        yield lease


def _finish_load(loading: Generator[LoadStatus, None, Lease]) -> Lease:
    with ProgressLine() as line, Steps(loading) as steps:
        for status in steps:
            line.show(f"Loading {status.fraction:4.0%}")
        return steps.result
