"""The planner's child process: keeps one model open without its weights, and answers what a context of it would take.

`python -m playground.fit.planner_worker` reads a JSON object from each line of its input and answers with one:

    {"open": {"path": path}}, or {"open": {"architecture": name, "metadata": {key: value}, "vocabulary_size": tokens}}
        -> {"trained_context": tokens, "layers": 31, "has_experts": false, "vocabulary_size": tokens,
            "weights": bytes, "repacked": bytes}
    {"context": {"context_size": tokens, "kv_type": "f16", "slots": 4, "scored_rows": 0, "placement": {…}}}
        -> {"kv_cache": bytes, "recurrent": bytes, "compute": bytes, "output": bytes, "base": bytes},
           if devices are in the placement also
           {"weights": bytes, "repacked": bytes, "on_devices": [[kind, device, bytes], …]}, the others in RAM alone
    each -> {"refused": [problem, remedy], "bad_file": true}
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import selectors
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from playground.errors import BadModelFile, PlaygroundError
from playground.llama.devices import device_backends
from playground.llama.dry_model import DryModel, KnownVocabulary
from playground.llama.log import LlamaLog
from playground.llama.params import CPU_ONLY, ContextParameters, Placement, context_parameters
from playground.machine.child_process import open_child_pipes
from playground.machine.malloc import KeptPages
from playground.machine.memory import read_process_memory

Json = dict[str, Any]

_BYTES_PER_CELL: Final = 52  # bookkeeping in llama_kv_cells: a position, and a bit for each of 256 sequences; measured
_BASE_STEP: Final = 2 << 20  # from one process to the next the same model's base varies by 0.2 MiB
_DEVICE_SECONDS: Final = 2.0  # without a question, after which a process that uses a GPU ends
_MOST_OPEN: Final = 4  # placements; a model without its vocabulary takes a few MiB
_SERIES_SECONDS: Final = 0.2  # the questions of one table, or of a slider, follow each other sooner


def main() -> None:
    """Open the model of the first line, then answer each further line, until the parent closes the pipe."""
    questions, answers = open_child_pipes(for_driver=bool(device_backends()))
    pages = KeptPages()
    with LlamaLog(on_line=lambda line: _keep_pages_of_recurrent_state(pages, line)) as log:
        model: _OpenModel | None = None
        base = _ProcessBase()
        lines = _Questions(questions, pages)
        for line in lines:
            question = json.loads(line)
            try:
                if model is None:
                    model = _OpenModel(question["open"], log)
                    answer = _description(model.open_first())
                else:
                    context = ContextParameters.from_fields(question["context"])
                    lines.uses_device = lines.uses_device or not context.placement.is_cpu_only
                    opened = model.placed(context.placement, whole=not base.is_known)
                    answer = _context_bytes(opened, context, base, pages)
            except PlaygroundError as error:
                answer = {"refused": [error.problem, error.remedy], "bad_file": isinstance(error, BadModelFile)}
            answers.write(json.dumps(answer).encode() + b"\n")


class _Questions:
    """The parent's lines, one at a time; kept pages go back to the system when the next line does not come soon.

    uses_device: a model was open on a GPU, whose driver gives its memory back only when the process ends. So the lines
    end when none comes for a while.
    """

    def __init__(self, pipe: BinaryIO, pages: KeptPages) -> None:
        self._pipe, self._pages = pipe, pages
        self.uses_device = False

    def __iter__(self) -> Iterator[bytes]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            while True:
                if not selector.select(_SERIES_SECONDS):
                    self._pages.give_back()
                    if self.uses_device and not selector.select(_DEVICE_SECONDS):
                        return
                line = self._pipe.readline()
                if not line:
                    return
                yield line


def _keep_pages_of_recurrent_state(pages: KeptPages, log_line: str) -> None:
    """A recurrent state is really allocated in a dry run too: 600 MiB and more, the same for every context size.

    llama.cpp logs its layers just before it allocates one. If that line ever changes, a table of such a model takes
    seconds longer, nothing else.
    """
    pages.keeping = log_line.startswith("llama_memory_recurrent") and "layer " in log_line


class _OpenModel:
    """The model, opened for some placements: which layers are on which device is decided when it is opened."""

    def __init__(self, subject: Json, log: LlamaLog) -> None:
        self._subject = subject
        self._log = log
        self._open: OrderedDict[Placement, DryModel] = OrderedDict()
        self._vocabulary: KnownVocabulary | None = None

    def open_first(self) -> DryModel:
        model = self.placed(CPU_ONLY, whole=True)
        self._vocabulary = KnownVocabulary(model.architecture, model.vocabulary_size)
        return model

    def placed(self, placement: Placement, *, whole: bool) -> DryModel:
        """whole: with the vocabulary, and no other beside it, so that the process is as large as a run's."""
        if placement not in self._open:
            while len(self._open) >= (1 if whole else _MOST_OPEN):
                self._open.popitem(last=False)[1].close()
            self._open[placement] = self._open_model(placement, None if whole else self._vocabulary)
        self._open.move_to_end(placement)
        return self._open[placement]

    def _open_model(self, placement: Placement, known: KnownVocabulary | None) -> DryModel:
        subject = self._subject
        if "path" not in subject:
            return DryModel.from_hyperparameters(
                subject["architecture"], subject["metadata"], subject["vocabulary_size"], self._log, placement
            )
        try:
            return DryModel.from_file(Path(subject["path"]), self._log, placement, known)
        except BadModelFile:
            if known is None:
                raise
            return DryModel.from_file(Path(subject["path"]), self._log, placement)  # it takes no metadata but its own


def _description(model: DryModel) -> Json:
    return {
        "trained_context": model.trained_context,
        "layers": model.layers,
        "has_experts": model.has_experts,
        "vocabulary_size": model.vocabulary_size,
        "weights": model.weight_bytes,
        "repacked": model.repacked_bytes,
    }


def _context_bytes(model: DryModel, context: ContextParameters, base: _ProcessBase, pages: KeptPages) -> Json:
    with model.context_memory(context_parameters(context)) as memory:
        on_devices = memory.on_devices
        parts = dataclasses.asdict(memory.in_ram)
        allocated = max(0, parts.pop("allocated") - sum(size for kind, _, size in on_devices if kind == "recurrent"))
        answer = {**parts, "base": base.bytes_with_context(context.cells, allocated)}
        if not context.placement.is_cpu_only:
            if not memory.buffers:
                raise PlaygroundError("This build of llama.cpp does not say what a GPU would hold.", "Choose CPU only.")
            placed = {"weights": memory.ram_weights, "repacked": memory.ram_repacked, "on_devices": on_devices}
            answer = {**answer, **placed}
    pages.hold(allocated)
    return answer


class _ProcessBase:
    """This process's own memory while a context is open, which is the base of a run; measured at the first context.

    Later contexts lie in memory that earlier ones have used, up to 60 MiB of it, which a run does not have. Their base
    differs from the first one's by the bookkeeping of each cell. Rounded up: from one process to the next it varies.
    """

    def __init__(self) -> None:
        self._first: tuple[int, int] | None = None  # cells, bytes

    @property
    def is_known(self) -> bool:
        return self._first is not None

    def bytes_with_context(self, cells: int, allocated: int) -> int:
        """Bytes beside the context's own parts; `allocated`: bytes of those parts that a dry run really allocates."""
        if self._first is None:
            own = read_process_memory(os.getpid()).resident - allocated
            self._first = cells, math.ceil(own / _BASE_STEP) * _BASE_STEP
        first_cells, first_bytes = self._first
        return max(0, first_bytes + (cells - first_cells) * _BYTES_PER_CELL)


if __name__ == "__main__":
    main()
