"""Opens the model that a chat has chosen: makes its level if it is not here yet, waits for memory, and loads it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

from playground.app.chat.updates import ChatUpdate
from playground.app.loaded_models import LoadedModels
from playground.app.messages import WorkProgress
from playground.app.model_picker.choice import ModelChoice
from playground.app.model_picker.makeable_levels import quantization_progress
from playground.app.model_picker.service import ModelPickerService
from playground.chat.session import ChatSession
from playground.chat.template.message import Message
from playground.engine.interface import Lease
from playground.engine.local.lease import ModelLease
from playground.engine.local.load_queue import LoadStatus
from playground.engine.local.pool import ModelPool
from playground.engine.remote.protocol import RemoteModel
from playground.engine.zerogpu.engine import ZeroGpuLease
from playground.engine.zerogpu.gpu import ZeroGpu
from playground.limits.run import Run
from playground.limits.visitor import Visitor
from playground.models.model_file import ModelFile
from playground.settings import Settings
from playground.steps import Steps


@dataclass(frozen=True)
class OpenedModel:
    """A model that can be used now."""

    model: ModelFile | RemoteModel
    lease: Lease


class ModelOpener:
    """Opens models for the chats of all visitors."""

    def __init__(
        self, settings: Settings, pool: ModelPool, picker: ModelPickerService, loaded_models: LoadedModels
    ) -> None:
        self._settings, self._pool, self._picker, self._loaded_models = settings, pool, picker, loaded_models

    def open_model(
        self, choice: ModelChoice, run: Run, *, allow_unfit: bool = False
    ) -> Generator[ChatUpdate, None, OpenedModel | None]:
        """The chosen model, made first if its level is not here yet, and loaded; None if the run was stopped."""
        model = yield from self._make(choice, run)
        lease = (yield from self._lease(model, choice, run, allow_unfit)) if model else None
        return OpenedModel(model, lease) if model and lease else None

    def _make(self, choice: ModelChoice, run: Run) -> Generator[ChatUpdate, None, ModelFile | RemoteModel | None]:
        was_made = False
        with Steps(self._picker.prepare_model(choice, run.is_stopped, run.visitor)) as making:
            for progress in making:
                was_made = True
                run.restart_wait()  # the making has a time limit of its own
                yield ChatUpdate(progress=quantization_progress(choice.level, progress))
            model = making.result
        if was_made and model:
            yield ChatUpdate(has_new_level=True)
        return model

    def _lease(
        self, model: ModelFile | RemoteModel, choice: ModelChoice, run: Run, allow_unfit: bool
    ) -> Generator[ChatUpdate, None, Lease | None]:
        """Yields how far the load is, or what it waits for."""
        loading: Generator[LoadStatus, None, Lease]
        zerogpu = self._picker.zerogpu if choice.device.is_zerogpu else None
        if isinstance(model, RemoteModel):
            loading, stage = self._picker.servers.lease_model(model), f"Asking {model.server}"
        else:
            context = self._picker.context_parameters(choice)
            allow_unfit = allow_unfit and self._settings.allow_load_anyway
            here = self._pool.lease_model(model.path, context, allow_unfit=allow_unfit, wait_for_memory=True)
            loading = _on_zerogpu(here, zerogpu, run.visitor) if zerogpu else here
            stage = f"Loading {model.display_name} · {model.level}"
        run.close_if_abandoned(loading)
        if run.is_stopped():
            return None
        with Steps[LoadStatus, Lease](loading) as steps:
            for status in steps:
                waits = self._loaded_models.waiting_sentence(status.waiting)
                yield ChatUpdate(progress=WorkProgress(waits) if waits else WorkProgress(stage, status.fraction))
                if run.is_stopped():
                    return None
            return steps.result


def _on_zerogpu(
    loading: Generator[LoadStatus, None, ModelLease], zerogpu: ZeroGpu, visitor: Visitor
) -> Generator[LoadStatus, None, ZeroGpuLease]:
    lease = yield from loading
    return ZeroGpuLease(lease, zerogpu, visitor.person)


def at_place_of_reply(
    session: ChatSession, before: Message | None, opening: Generator[ChatUpdate, None, OpenedModel | None]
) -> Generator[ChatUpdate, None, OpenedModel | None]:
    """The updates of `opening`, with its progress in the place where the reply will stand."""
    with Steps(opening) as updates:
        for update in updates:
            if isinstance(update.progress, WorkProgress):
                growing = before or Message("assistant", "")
                update = replace(update, session=session, growing=growing, opening=update.progress, progress=None)
            yield update
        return updates.result
