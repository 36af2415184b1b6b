"""What a visitor does in the Compare tab: ask both models, ask one again, vote, save; each yields CompareUpdates.

While a comparison is blind, nothing may show which model is which, and the speed of writing would: both answers then
appear together, when both are complete.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import Final, Literal

from playground.app.compare.comparison import (
    POSITIONS,
    CompareRequest,
    Comparison,
    read_stored_comparison,
)
from playground.app.compare.dial import DialService
from playground.app.compare.further_answers import NOT_ASKED
from playground.app.compare.measurements import ComparisonMeasurements
from playground.app.compare.running_panes import RunningPanes, run_panes
from playground.app.compare.scoring import MEASURING, STOP_SECONDS, ComparisonScoring
from playground.app.compare.setup import CompareSetup
from playground.app.compare.updates import (
    PLACE,
    CompareUpdate,
    refused_update,
    update_at_rest,
)
from playground.app.compare.voting import BlindVoting
from playground.app.drawing_pace import DrawingPace
from playground.app.loaded_models import LoadedModels
from playground.app.messages import CLEAR, Notice, log_refusal
from playground.app.model_picker.choice import ModelChoice
from playground.app.model_picker.makeable_levels import quantization_progress
from playground.app.model_picker.service import ModelPickerService
from playground.app.resumable import ResumableReplies
from playground.app.services import Services
from playground.chat.compare import usual_mode
from playground.chat.comparison import Pane, PaneUpdate
from playground.chat.comparison_export import (
    SavedComparison,
    SavedPane,
    comparison_as_json,
    comparison_as_markdown,
)
from playground.chat.history import HistoryLimits, check_chat
from playground.engine.protocol import Queued
from playground.engine.remote.protocol import RemoteModel
from playground.errors import PlaygroundError, RequestRefused
from playground.limits.run import Run, StoppedBy
from playground.limits.visitor import Visitor
from playground.measure.votes import VoteStore
from playground.models.file_records import FileChecksums
from playground.models.model_file import ModelFile
from playground.steps import Steps

_TEXTS_ONLY: Final = (
    "The questions and answers of this comparison are back, without their figures and names: the page was away for too "
    "long, or the playground was restarted."
)


class CompareService:
    """Serves the comparisons of all visitors; `runs` limits what each may have under way.

    replies: those that go on without their page for a while.
    """

    def __init__(
        self,
        services: Services,
        picker: ModelPickerService,
        loaded_models: LoadedModels,
        replies: ResumableReplies[CompareUpdate] | None = None,
    ) -> None:
        self.replies: ResumableReplies[CompareUpdate] = replies or ResumableReplies()
        self.picker = picker
        self.loaded_models = loaded_models
        self.runs = picker.runs
        self.limits = HistoryLimits.of(services.settings)
        self.dials = DialService(services, picker)
        self.setup = CompareSetup(services, picker, self.limits, self.dials)
        self.usual_mode = usual_mode(services.processors.usable)
        self.votes = VoteStore(services.settings.data_dir / "votes.sqlite", services.settings.max_results)
        self.votes.repair_file()
        self.scoring = ComparisonScoring(services, self.runs)
        self.measurements = ComparisonMeasurements(self.scoring, self.setup, self.dials)
        self.voting = BlindVoting(self.votes, self.runs, self.setup, self.measurements, self.replies.forget)
        self._checksums = FileChecksums(services.settings.data_dir / "digests.json")
        self._services = services
        self._interval_seconds = 1 / services.settings.updates_per_second

    # --- what a visitor does ---

    def ask_both(
        self, visitor: Visitor, comparison: Comparison, text: str, request: CompareRequest, key: str = ""
    ) -> Generator[CompareUpdate, None, None]:
        """Ask both models; makes and loads what is missing first.

        key: with which the page finds the answers again, if it is closed or loses its connection; "": they end then.
        """
        try:
            request = self.setup.complete_request(request)
            asked = self._check_limits(comparison.with_question(text, request, self.limits))
        except PlaygroundError as error:
            yield refused_update(error, visitor)
            return
        yield from self._run_panes(visitor, asked, request, POSITIONS, key)

    def regenerate_answer(
        self, visitor: Visitor, comparison: Comparison, position: int, request: CompareRequest, key: str = ""
    ) -> Generator[CompareUpdate, None, None]:
        """Another answer of one pane, by the model that is chosen there now."""
        try:
            request = self.setup.complete_request(request)
            asked = self._check_limits(comparison.without_reply_at(position, request))
        except PlaygroundError as error:
            yield refused_update(error, visitor)
            return
        yield from self._run_panes(visitor, asked, request, (position,), key)

    def continue_answer(
        self, visitor: Visitor, comparison: Comparison, position: int, request: CompareRequest, key: str = ""
    ) -> Generator[CompareUpdate, None, None]:
        """The answer of one pane goes on from where it stopped, up to twice its length.

        A server writes its whole answer again, since it cannot be asked to go on.
        """
        pane = comparison.pane_at(position)
        written = pane.result.finished.timings.generated_tokens if pane.result else None
        most = self.runs.limits.reply_tokens
        longer = 2 * max(written or 0, request.max_tokens)
        request = replace(request, max_tokens=min(longer, most))
        if pane.result is None or pane.result.is_remote or not pane.choice:
            yield from self.regenerate_answer(visitor, comparison, position, request, key)
            return
        choices = list(request.choices)
        choices[comparison.shown_order[position]] = pane.choice
        request = replace(request, choices=(choices[0], choices[1]))
        try:
            if len(pane.result.tokens) >= most:
                raise RequestRefused(f"An answer can have at most {most:,} tokens here.", setting="max_reply_tokens")
            asked = self._check_limits(comparison.with_going_on(position, request))
        except PlaygroundError as error:
            yield refused_update(error, visitor)
            return
        yield from self._run_panes(visitor, asked, request, (position,), key)

    def swap_levels(
        self, visitor: Visitor, comparison: Comparison, request: CompareRequest, key: str = ""
    ) -> Generator[CompareUpdate, None, None]:
        """The last question to the levels that are chosen now: a kept answer at once, any other is asked for.

        Yields nothing before the first question.
        """
        if comparison.is_empty:
            return
        if comparison.is_hidden:
            yield refused_update(RequestRefused("Another level would show which is which.", "Vote first."), visitor)
            return
        owner = key or visitor.session
        request = replace(self.setup.complete_request(request), blind=False)
        before = comparison.revealed()
        asked, missing = before.with_levels(request)
        asked, missing = self.measurements.with_kept_answers(owner, before, asked, missing)
        if missing:
            yield from self._run_panes(visitor, asked, request, missing, key)
        else:
            yield replace(self.measurements.at_rest(asked, owner), problem=CLEAR)

    def stop_what_runs(self, visitor: Visitor) -> None:
        """End what this page has under way, and return when it has ended: the next thing begins at once."""
        for place in (PLACE, MEASURING):
            self.runs.stop_run(visitor, place)
        self.runs.wait_until_free(visitor, PLACE, STOP_SECONDS)

    def stop_comparison(self, visitor: Visitor) -> None:
        """Stop what this page's comparison has under way, within one update."""
        self.runs.stop_run(visitor, PLACE)

    def restore_comparison(
        self, visitor: Visitor, kept: str, growing: str = "", key: str = ""
    ) -> Iterator[CompareUpdate]:
        """The comparison of a page that is back: from the server if it is still here, else the texts that its tab kept.

        kept, growing: as `Comparison.to_stored_text` and `growing_answers` write them; a browser may send anything.
        """
        newest, _ = self.replies.find(key)
        if newest and newest.comparison:
            for update in self.replies.resume(key, visitor):
                yield replace(update, problem=None) if update.problem == CLEAR else update
            return
        comparison = read_stored_comparison(kept, growing, self.limits)
        if not comparison.is_empty:
            yield replace(update_at_rest(comparison), problem=Notice(_TEXTS_ONLY, "warning"))

    def clear_comparison(self, comparison: Comparison, key: str = "") -> CompareUpdate:
        """A new comparison, from which one can go back until the next question."""
        self.replies.forget(key)
        emptied = comparison.cleared_for_now()
        problem = Notice("The comparison was cleared. Undo brings it back.") if emptied.replaced else CLEAR
        return replace(update_at_rest(emptied), problem=problem, further=NOT_ASKED)

    def undo_clear(self, comparison: Comparison, key: str = "") -> CompareUpdate:
        """The comparison before it was cleared, but for what was measured beside its answers."""
        return replace(self.measurements.at_rest(comparison.replaced or comparison, key), problem=CLEAR)

    def reveal_names(self, comparison: Comparison, key: str = "") -> CompareUpdate:
        """Blind mode was switched off: both panes go back to where they were chosen."""
        return self.measurements.at_rest(comparison.revealed(), key)

    def save_comparison(self, comparison: Comparison, form: Literal["markdown", "json"]) -> Iterator[float | str]:
        """The whole comparison as a text: yields the done fraction of the checksums, then the text.

        Raises RequestRefused before the first answer, and while the names are hidden.
        """
        panes = [pane for position in POSITIONS if (pane := comparison.pane_at(position)).file]
        if not panes or comparison.is_hidden or comparison.request is None:
            raise RequestRefused("There is nothing to save yet.", "Ask both models something first.")
        yield from self._checksums.compute_checksums([pane.file for pane in panes if isinstance(pane.file, ModelFile)])
        saved = SavedComparison(
            panes=tuple(
                SavedPane(
                    pane.file,
                    pane.context,
                    pane.conversation,
                    pane.result,
                    (self._checksums.known_checksums(pane.file) or ()) if isinstance(pane.file, ModelFile) else (),
                    pane.finished,
                    pane.cut_short,
                )
                for pane in panes
                if pane.file
            ),
            sampling=next((pane.result.sampling for pane in panes if pane.result), comparison.request.sampling),
            max_tokens=comparison.request.max_tokens,
            processors=self._services.processors,
            memory=self._services.memory(),
            noise=comparison.noise,
        )
        yield comparison_as_json(saved) if form == "json" else comparison_as_markdown(saved)

    # --- how the panes are run ---

    def run_panes_in_turn(
        self, panes: Sequence[Pane], request: CompareRequest, run: Run
    ) -> Generator[PaneUpdate, None, None]:
        """The answers of any number of panes, one after the other."""
        return run_panes(self._services, panes, request, run, "in turn")

    def _check_limits(self, comparison: Comparison) -> Comparison:
        """Raises RequestRefused for too long texts and for too long a reply."""
        if comparison.request:
            self.runs.check_reply_length(comparison.request.max_tokens)
        for pane in comparison.panes:
            check_chat(pane.conversation.system, pane.conversation.messages, self.limits)
        return comparison

    def _run_panes(
        self, visitor: Visitor, comparison: Comparison, request: CompareRequest, positions: Sequence[int], key: str
    ) -> Iterator[CompareUpdate]:
        answer = partial(self._answer, visitor, comparison, request, positions, key)
        yield from self.replies.start(key, visitor, answer)

    def _answer(
        self,
        visitor: Visitor,
        comparison: Comparison,
        request: CompareRequest,
        positions: Sequence[int],
        key: str,
        has_begun: Callable[[Run], None] | None,
    ) -> Iterator[CompareUpdate]:
        """Answer at these positions, and keep the answers. Everything that is held is released before the last update.

        has_begun: takes the run of answers that go on without their page for a while.
        """
        absence_seconds = self.replies.absence_seconds if has_begun else 0.0
        owner = key or visitor.session
        running = RunningPanes(comparison, positions)
        problem: PlaygroundError | None = None
        with ExitStack() as share:
            try:
                run = share.enter_context(
                    self.runs.start_run(visitor, "comparison", PLACE, absence_seconds=absence_seconds)
                )
            except RequestRefused as error:
                yield refused_update(error, visitor)
                return
            if has_begun:
                has_begun(run)
            yield CompareUpdate(comparison, running.states, "busy", problem=CLEAR, answers=CLEAR)
            yield CompareUpdate(further=self.measurements.further(comparison, owner, is_busy=True))  # takes a moment
            try:
                for position in positions:
                    yield from self._prepare_model(running, position, request, run)
                if not run.is_stopped():
                    yield from self._stream_answers(running, request, run, owner)
            except PlaygroundError as error:
                problem = error
            stopped_by: StoppedBy = "person"
            if not running.all_ended and run.is_stopped():
                problem, stopped_by = run.interruption or problem, run.stopped_by
        if problem:
            log_refusal(problem, visitor)
        update = self.measurements.with_marks(running.final_update(stopped_by, problem), owner)
        assert update.comparison is not None
        facts = None if update.comparison.is_hidden else self.measurements.facts(update.comparison, owner)
        yield replace(
            update, problem=problem, result=facts, further=self.measurements.further(update.comparison, owner)
        )

    def _prepare_model(
        self, running: RunningPanes, position: int, request: CompareRequest, run: Run
    ) -> Iterator[CompareUpdate]:
        """Find or make the model that answers here; an error concerns this pane only."""
        side = running.comparison.shown_order[position]
        choice = request.choices[side]
        try:
            if run.is_stopped():
                return
            file = yield from self._make_model(running, position, choice, run)
            if file:
                bits = self.setup.bits_per_weight(file)
                running.set_model(position, file, self.setup.context(file, choice), choice, bits)
        except PlaygroundError as error:
            log_refusal(error, run.visitor)
            running.set_failure(position, error)

    def _make_model(
        self, running: RunningPanes, position: int, choice: ModelChoice, run: Run
    ) -> Generator[CompareUpdate, None, ModelFile | RemoteModel | None]:
        """The chosen model, made first if it is not on the disk; None if it was stopped."""
        source, shown_at = "", 0.0
        with Steps(self.picker.prepare_model(choice, run.is_stopped, run.visitor)) as making:
            for step in making:
                run.restart_wait()  # a quantization has a time limit of its own
                source = source or self._source_level(choice)
                now = time.monotonic()
                if now - shown_at >= self._interval_seconds:
                    shown_at = now
                    progress = quantization_progress(choice.level, step)
                    if source and not step.measures_imatrix:
                        progress = replace(progress, stage=f"{progress.stage} from the {source} file")
                    running.set_note(position, progress)
                    yield CompareUpdate(panes=running.states)
            file = making.result
        if file and source:
            yield CompareUpdate(has_new_level=True)
        return file

    def _source_level(self, choice: ModelChoice) -> str:
        try:
            return self._services.quantization_jobs.source_file(choice.model or "").level
        except PlaygroundError:
            return ""

    def _stream_answers(
        self, running: RunningPanes, request: CompareRequest, run: Run, owner: str
    ) -> Iterator[CompareUpdate]:
        updates = run_panes(self._services, running.ready_panes, request, run, request.mode)
        pace = DrawingPace(self._interval_seconds)
        with closing(updates):
            for update in updates:
                running.apply_update(update, self.loaded_models.waiting_sentence(update.waiting))
                if update.failed:
                    log_refusal(update.failed, run.visitor)
                if update.result:
                    self.measurements.kept.add_answer(owner, request, running.pane_of(update))
                if update.reply and update.reply.event and not isinstance(update.reply.event, Queued):
                    run.begin_work()
                if run.is_stopped():
                    return
                reply = update.reply
                is_edge = reply is None or reply.has_first_token or reply.finished
                if pace.is_due(reply.characters if reply else 0) or is_edge:
                    yield CompareUpdate(panes=running.states)
