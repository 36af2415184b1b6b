"""Plans the memory of a model before it is loaded, by asking llama.cpp itself.

Each model is opened without its weights in a child process (planner_worker.py), which says what every part of a context
would take. A few children stay open, so that a slider answers at once. The planner adds nothing of its own but the
vocabulary of a model without a file.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from playground.errors import BadModelFile, ModelNotFound, PlaygroundError
from playground.fit.budget import Budget
from playground.fit.offload import LayerCount, choose_placement
from playground.fit.plan import MemoryPlan, Part
from playground.gguf.header import read_model_header
from playground.gguf.weight_use import ALL_READ, WeightUse, weight_use
from playground.llama.log import abort_message, printable
from playground.llama.params import AUTOMATIC, CPU, CPU_ONLY, ContextParameters, Placement
from playground.machine.child_process import ChildProcess, describe_exit
from playground.machine.memory import is_held_in_memory, read_data_limit, read_process_memory
from playground.models.catalog import Blueprint

PlannableModel = str | PathLike[str] | Blueprint
Json = dict[str, Any]

_WORKER: Final = "playground.fit.planner_worker"
_MOST_ANSWERS: Final = 4096
# Of a process that has read the vocabulary: 164 for Gemma's 262,144 tokens, 330 for SmolLM2's 49,152 and their merges.
_VOCABULARY_BYTES_PER_TOKEN: Final = 250
_TRY_AGAIN: Final = "Try again; if it happens again, choose another file."
_ANOTHER_FILE: Final = "The file is made for another program or version: choose another file of the model."


@dataclass(frozen=True)
class PlacedPlan:
    """A plan where the model will run.

    reason: a sentence that says why there; "" where there is nothing to choose.
    """

    plan: MemoryPlan
    reason: str


class Planner:
    """Answers how much memory a model would need. Safe to share between threads; a `with` resource.

    children: how many models stay open; the least recently used is closed first.
    timeout_seconds: the longest a question may take, opening included.
    idle_seconds: without a question, after which only the last model stays open: each takes 65 MiB and more.
    """

    def __init__(self, children: int = 4, timeout_seconds: float = 20.0, idle_seconds: float = 20.0) -> None:
        self._most_children = children
        self._timeout_seconds = timeout_seconds
        self._idle_seconds = idle_seconds
        self._idle_timer: threading.Timer | None = None
        self._lock = threading.Lock()
        self._models: OrderedDict[str, _PlannedModel] = OrderedDict()
        self._answers: OrderedDict[tuple[str, ContextParameters], MemoryPlan] = OrderedDict()
        self._closed = False

    def __enter__(self) -> Planner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def plan(self, model: PlannableModel, context: ContextParameters) -> MemoryPlan:
        """The memory of a model with that context. An answer already given is remembered.

        model: a GGUF file, or a stand-in for one; the first shard, beside the others, of a split one; or a blueprint,
        whose `weights` and `repacked` are 0 because they depend on the level.
        Raises ModelNotFound, BadModelFile with llama.cpp's words, or PlaygroundError when it gives no answer.
        """
        key, description = _identity(model)
        with self._lock:
            if (known := self._answers.get((key, context))) is not None:
                self._answers.move_to_end((key, context))
                return known
        answer = self._open_model(key, description).plan(context)
        if isinstance(model, Blueprint):
            answer = dataclasses.replace(answer, use=_blueprint_use(model))
        with self._lock:
            self._answers[key, context] = answer
            while len(self._answers) > _MOST_ANSWERS:
                self._answers.popitem(last=False)
        return answer

    def place(
        self,
        model: PlannableModel,
        context: ContextParameters,
        budget: Budget,
        levels: Mapping[str, int] = MappingProxyType({}),
        weights: int | None = None,
    ) -> PlacedPlan:
        """Where a model runs by the choice in `context`, and its memory there. Raises as `plan` does, and as
        `choose_placement` does.

        levels: other levels of the model, with the bytes of their weights. weights: of the level that is meant, if it
        is not the one of `model`.
        """

        def plan_at(placement: Placement) -> MemoryPlan:
            plan = self.plan(model, replace(context, placement=placement))
            return plan if weights is None else plan.with_weights(weights)

        if not budget.devices and context.device.device.lower() in (AUTOMATIC, CPU):
            return PlacedPlan(plan_at(CPU_ONLY), "")
        count = self.layer_count(model)
        placed = choose_placement(context.device, budget, count, plan_at, levels)
        return PlacedPlan(plan_at(placed.placement), placed.reason)

    def layer_count(self, model: PlannableModel) -> LayerCount:
        """How many layers the model has, with the output. Raises as `plan` does."""
        facts = self._open_model(*_identity(model)).facts
        return LayerCount(facts["layers"], facts["has_experts"])

    def trained_context(self, model: PlannableModel) -> int:
        """The context the model was trained for, in tokens. Raises as `plan` does."""
        return int(self._open_model(*_identity(model)).facts["trained_context"])

    def held_bytes(self) -> int:
        """Memory of the children, which `give_back_memory` frees: 40 to 100 MiB each, more for some models."""
        with self._lock:
            models = tuple(self._models.values())
        return sum(model.held_bytes() for model in models)

    def give_back_memory(self) -> None:
        """End the children; answers already given are still known, and a new question opens its model again."""
        self._close_oldest(0)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._stop_idle_timer()
        self.give_back_memory()

    def _close_oldest(self, kept: int) -> None:
        """Close the models that were not asked about last, but for so many."""
        with self._lock:
            unused = [self._models.popitem(last=False)[1] for _ in range(len(self._models) - kept)]
        for model in unused:
            model.close()

    def _stop_idle_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _restart_idle_timer(self) -> None:
        self._stop_idle_timer()
        if len(self._models) > 1:
            self._idle_timer = threading.Timer(self._idle_seconds, self._close_oldest, (1,))
            self._idle_timer.daemon = True
            self._idle_timer.start()

    def _open_model(self, key: str, description: Json) -> _PlannedModel:
        with self._lock:
            if self._closed:
                raise PlaygroundError("The planner is closed.", "Start the playground again.")
            model = self._models.setdefault(key, _PlannedModel(description, self._timeout_seconds))
            self._models.move_to_end(key)
            self._restart_idle_timer()
        self._close_oldest(self._most_children)
        return model


class _PlannedModel:
    """One model's child: started at the first question, replaced after its death, asked by one thread at a time.

    A thread may still hold one that was closed meanwhile: its question is answered, but no child stays behind.
    """

    def __init__(self, description: Json, timeout_seconds: float) -> None:
        self._description = description
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._child: _PlannerChild | None = None
        self._use: WeightUse | None = None
        self._closed = False

    @property
    def facts(self) -> Json:
        """What the child said of the model when it opened it."""
        with self._living_child() as child:
            return child.facts

    def plan(self, context: ContextParameters) -> MemoryPlan:
        try:
            return self._ask(context)
        except _ChildKilled:
            return self._ask(context)  # of another child

    def _ask(self, context: ContextParameters) -> MemoryPlan:
        with self._living_child() as child:
            parts = child.ask({"context": dataclasses.asdict(context)})
        facts = child.facts
        if "path" not in self._description:
            parts["base"] += facts["vocabulary_size"] * _VOCABULARY_BYTES_PER_TOKEN
        held = "path" in self._description and is_held_in_memory(Path(self._description["path"]))
        in_ram = {"weights": facts["weights"], "repacked": facts["repacked"], **parts}
        on_devices = tuple(Part(*part) for part in in_ram.pop("on_devices", ()))
        return MemoryPlan(
            context=context,
            held_weights=in_ram["weights"] if held else 0,
            use=self._weight_use(),
            layers=facts["layers"],
            may_stay=read_data_limit(),
            on_devices=on_devices,
            file_weights=facts["weights"],
            **in_ram,
        )

    def _weight_use(self) -> WeightUse:
        """From the file's own table of tensors, read once."""
        if self._use is None:
            self._use = _read_weight_use(Path(self._description["path"])) if "path" in self._description else ALL_READ
        return self._use

    def held_bytes(self) -> int:
        """Does not wait for a question under way."""
        child = self._child
        try:
            return read_process_memory(child.pid).anonymous if child else 0
        except OSError:  # it has ended
            return 0

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._close_child()

    @contextmanager
    def _living_child(self) -> Iterator[_PlannerChild]:
        with self._lock:
            if self._child is not None and not self._child.is_alive:
                self._close_child()
            if self._child is None:
                self._child = _PlannerChild(self._description, self._timeout_seconds)
            try:
                yield self._child
            finally:
                if self._closed:
                    self._close_child()

    def _close_child(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None


class _ChildKilled(PlaygroundError):
    """The child was ended from outside, without a word, as the system does when memory is short."""


class _PlannerChild:
    """A child that has one model open; `facts` are what it said of the model. For one thread at a time.

    The constructor and `ask` raise BadModelFile when llama.cpp refuses the model or crashes, _ChildKilled when the
    child was ended from outside, PlaygroundError when it takes longer than `timeout_seconds`.
    """

    def __init__(self, description: Json, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._name = printable(Path(description["path"]).name) if "path" in description else "this model"
        self._process = ChildProcess(_WORKER)
        try:
            self.facts = self.ask({"open": description})
        except BaseException:
            self.close()
            raise

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, question: Json) -> Json:
        """The child's answer. After a death or a timeout the child is gone."""
        self._process.send_line(json.dumps(question).encode())
        try:
            answer: Json = json.loads(self._process.read_line(self._timeout_seconds))
        except TimeoutError:
            self._process.kill()
            raise PlaygroundError(
                f"llama.cpp did not answer within {self._timeout_seconds:g} seconds what {self._name} needs.",
                _TRY_AGAIN,
            ) from None
        except (EOFError, ValueError):
            self._process.kill()
            raise self._cause_of_death() from None
        if "refused" in answer:
            kind = BadModelFile if answer["bad_file"] else PlaygroundError
            raise kind(*answer["refused"])
        return answer

    def close(self) -> None:
        self._process.close()

    def _cause_of_death(self) -> PlaygroundError:
        code = self._process.wait_for_exit()
        words = abort_message("\n".join(self._process.last_words()))
        if not words or code == 0:  # it ends by itself when it was not asked for a while
            return _ChildKilled(f"The planning of {self._name} stopped: its process {describe_exit(code)}.", _TRY_AGAIN)
        return BadModelFile(f"llama.cpp stopped while planning {self._name}: {words}.", _ANOTHER_FILE)


def _read_weight_use(path: Path) -> WeightUse:
    """All weights count as read where llama.cpp could open a file whose header this cannot read."""
    try:
        header = read_model_header(path)
    except (PlaygroundError, OSError):
        return ALL_READ
    return weight_use(header.architecture, header.metadata, header.tensors)


def _blueprint_use(model: Blueprint) -> WeightUse:
    """By the tensors as they are before quantization: at every level the shares are nearly the same."""
    metadata = {f"{model.architecture}.{key}": value for key, value in model.metadata.items()}
    return weight_use(model.architecture, metadata, model.tensors)


def _identity(model: PlannableModel) -> tuple[str, Json]:
    """A model's key here, and its description for a child. A file that has changed is another model."""
    if isinstance(model, Blueprint):
        description = {
            "architecture": model.architecture,
            "metadata": dict(model.metadata),
            "vocabulary_size": model.vocabulary_size,
        }
        return json.dumps(description, sort_keys=True), description
    path = Path(model).absolute()
    try:
        status = path.stat()
    except OSError as error:
        raise ModelNotFound(f"There is no model file {path.name} to plan.", "Choose another one.") from error
    return json.dumps([str(path), status.st_mtime_ns, status.st_size]), {"path": str(path)}
