"""What happens in the Compare tab: a question to both sides, one more answer, the vote; as frames.

Joins the pickers' choices, the making of levels that are not here yet, the comparison and the book of votes. Knows no
component: a frame says what is new on the page, and tests read frames. While a round is blind nothing may tell which
is which, the pace of the writing least of all: both texts then appear together, when both are whole.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace

from playground.app.compare.comparison import CompareRequest, Comparison
from playground.app.compare.scoring import ComparisonScoring
from playground.app.compare.setup import CompareSetup
from playground.app.compare.updates import PLACE, PLACES, Board, CompareUpdate, at_rest, refusal
from playground.app.loaded_models import LoadedModels
from playground.app.model_choice import ModelChoice
from playground.app.model_picker import ModelPickerService
from playground.app.refusals import error_message, log_refusal
from playground.app.services import Services
from playground.chat.compare import compare, usual_mode
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
from playground.limits.runs import Run, Visitor
from playground.measure.votes import Pair, VoteStore
from playground.models.file_records import FileChecksums
from playground.models.library import ModelFile
from playground.web.html.compare import tally_table
from playground.web.html.page import error_card, notice


class CompareService:
    """Serves every visitor's comparison; the picker's ledger of visits keeps them apart and sees to their shares."""

    def __init__(self, services: Services, picker: ModelPickerService, loaded_models: LoadedModels) -> None:
        self.picker = picker
        self.loaded_models = loaded_models
        self.runs = picker.runs
        self.limits = HistoryLimits.of(services.settings)
        self.setup = CompareSetup(services, picker, self.limits)
        self.usual_mode = usual_mode(services.processors.usable)
        self.votes = VoteStore(services.settings.data_dir / "votes.sqlite", services.settings.max_results)
        self.votes.repair_file()
        self.lab = ComparisonScoring(services, self.runs, loaded_models)
        self._digests = FileChecksums(services.settings.data_dir / "digests.json")
        self._services = services
        self._interval_seconds = 1 / services.settings.updates_per_second

    # --- what a person does ---

    def ask(self, visitor: Visitor, duel: Comparison, text: str, wish: CompareRequest) -> Iterator[CompareUpdate]:
        """The question to both sides; what is missing is made and loaded first."""
        try:
            asked = self._within_limits(duel.asked(text, wish, self.limits), wish)
        except PlaygroundError as error:
            yield refusal(error, visitor)
            return
        yield from self._answers(visitor, asked, wish, PLACES)

    def regenerate(
        self, visitor: Visitor, duel: Comparison, place: int, wish: CompareRequest
    ) -> Iterator[CompareUpdate]:
        """Another answer in one place, by the model that is chosen there now."""
        try:
            asked = self._within_limits(duel.asked_again(place, wish), wish)
        except PlaygroundError as error:
            yield refusal(error, visitor)
            return
        yield from self._answers(visitor, asked, wish, (place,))

    def record(self, duel: Comparison, kind: str) -> Iterator[float | str]:
        """The whole comparison as "markdown" or "json": the fraction of the checksums done, then the text."""
        panes = [side for place in PLACES if (side := duel.at(place)).pane]
        if not panes or duel.is_hidden or duel.wish is None:
            raise RequestRefused("There is nothing to save yet.", "Ask both models something first.")
        yield from self._digests.compute_checksums([side.file for side in panes if isinstance(side.file, ModelFile)])
        records = tuple(
            SavedPane(
                side.file,
                side.context,
                side.conversation,
                side.result,
                "",
                (self._digests.known_checksums(side.file) or ()) if isinstance(side.file, ModelFile) else (),
                side.ends,
            )
            for side in panes
            if side.file
        )
        sampling = next((side.result.sampling for side in panes if side.result), duel.wish.sampling)
        record = SavedComparison(
            records, sampling, duel.wish.max_tokens, self._services.processors, self._services.memory(), duel.spread
        )
        yield comparison_as_json(record) if kind == "json" else comparison_as_markdown(record)

    def vote(self, visitor: Visitor, duel: Comparison, ballot: str) -> CompareUpdate:
        """The vote kept, and the names shown; a vote that cannot be kept is told and hides nothing."""
        try:
            vote = duel.vote(ballot)
        except PlaygroundError as error:
            return refusal(error, visitor)
        problem = ""
        try:
            self.runs.add_result(visitor)
            self.votes.add_vote(vote)
        except PlaygroundError as error:
            problem = error_message(error, visitor)
        duel = replace(duel, voted=vote.preference)
        return replace(at_rest(duel), problem=problem, tally=self.tally(duel))

    def clear(self, duel: Comparison) -> CompareUpdate:
        """A new chat on both sides."""
        duel = duel.cleared()
        return replace(at_rest(duel), control="", agreement="", problem="")

    def unhide(self, duel: Comparison) -> CompareUpdate:
        """Blind mode is off: the sides go back to where they were chosen."""
        return at_rest(duel.revealed())

    def stop(self, visitor: Visitor) -> None:
        """Ends what this page's comparison has under way, within one update."""
        self.runs.stop_run(visitor, PLACE)

    # --- what the page shows of a comparison at rest ---

    def tally(self, duel: Comparison | None = None) -> str:
        """The votes so far, those on this pair first."""
        try:
            tallies = self.votes.tallies()
        except PlaygroundError as error:
            return error_card(error)
        pair = None
        if duel and not duel.is_hidden and all(side.file for side in duel.sides):
            pair = Pair.in_order(duel.sides[0].contestant, duel.sides[1].contestant)
        aside = notice(self.votes.set_aside, "warning") if self.votes.set_aside else ""
        return aside + tally_table(tallies, pair)

    # --- how it goes ---

    def _within_limits(self, duel: Comparison, wish: CompareRequest) -> Comparison:
        """Raises RequestRefused for too much, asked or to be answered."""
        self.runs.check_reply_length(wish.max_tokens)
        for side in duel.sides:
            check_chat(side.conversation.system, side.conversation.messages, self.limits)
        return duel

    def _answers(
        self, visitor: Visitor, duel: Comparison, wish: CompareRequest, places: Sequence[int]
    ) -> Iterator[CompareUpdate]:
        board = Board(duel, places)
        problem = ""
        with ExitStack() as share:
            try:
                run = share.enter_context(self.runs.start_run(visitor, "comparison", PLACE))
            except RequestRefused as error:
                yield refusal(error, visitor)
                return
            yield CompareUpdate(
                board.duel, board.panes(), "busy", problem="", differences="", parting="", control="", agreement=""
            )
            try:
                for place in places:
                    yield from self._seated(visitor, board, place, wish, run)
                if not run.is_stopped():
                    yield from self._compared(board, wish, run)
            except PlaygroundError as error:
                problem = error_message(error, visitor)
            if run.interruption and not board.is_finished:
                board.stopped_by, problem = run.stopped_by, error_message(run.interruption, visitor)
        ended = self._ended(board)
        yield replace(ended, problem=problem) if problem else ended

    def _seated(
        self, visitor: Visitor, board: Board, place: int, wish: CompareRequest, run: Run
    ) -> Iterator[CompareUpdate]:
        """The file that answers here made ready; what goes wrong with it is this place's alone."""
        side = board.duel.order[place]
        choice = self.setup.settled(wish.choices[side], side)
        try:
            file = None if run.is_stopped() else (yield from self._ready(visitor, board, place, choice, run))
            if file:
                board.seat(place, file, self.setup.context(file, choice))
        except PlaygroundError as error:
            log_refusal(error, visitor)
            board.fail(place, error)

    def _ready(
        self, visitor: Visitor, board: Board, place: int, choice: ModelChoice, run: Run
    ) -> Generator[CompareUpdate, None, ModelFile | RemoteModel | None]:
        """The model of a choice, made first where it is not here yet; None when it was stopped."""
        making = self.picker.prepare_model(choice, run.is_stopped, visitor)
        made_from, told_at = "", 0.0
        with closing(making):
            while True:
                try:
                    progress = next(making)
                except StopIteration as end:
                    made: ModelFile | RemoteModel | None = end.value
                    if made and made_from:
                        yield CompareUpdate(is_made=True)
                    return made
                run.restart_wait()  # a making has its own longest time
                made_from = made_from or self._made_from(choice)
                if time.monotonic() - told_at >= self._interval_seconds:
                    told_at = time.monotonic()
                    board.making(place, choice.level or "", made_from, progress.fraction)
                    yield CompareUpdate(panes=board.panes())

    def _made_from(self, choice: ModelChoice) -> str:
        try:
            return self._services.quantization_jobs.source_file(choice.model or "").level
        except PlaygroundError:
            return ""

    def _compared(self, board: Board, wish: CompareRequest, run: Run) -> Iterator[CompareUpdate]:
        panes = [pane for place in board.seated if (pane := board.duel.at(place).pane)]
        updates = compare(
            self._services.pool, self._services.planner, panes, wish.sampling,
            wish.max_tokens,
            mode=wish.mode, interval_seconds=self._interval_seconds, remotes=self._services.remotes,
            visitor=run.visitor,
        )  # fmt: skip
        run.close_if_abandoned(updates)
        shown_at = 0.0
        with closing(updates):
            for update in updates:
                board.take(update, self.loaded_models.waiting_sentence(update.waiting))
                if update.failed:
                    log_refusal(update.failed, run.visitor)
                if update.reply and update.reply.event and not isinstance(update.reply.event, Queued):
                    run.begin_work()
                if run.is_stopped():
                    return
                now = time.monotonic()
                if update.reply is None or update.reply.finished or now - shown_at >= self._interval_seconds:
                    shown_at = now
                    yield CompareUpdate(panes=board.panes())

    def _ended(self, board: Board) -> CompareUpdate:
        duel = board.finished()
        frame = at_rest(duel)
        if board.duel.is_hidden and not duel.is_hidden:  # broken: the sides stand elsewhere now
            return replace(frame, problem=board.failures)
        return replace(frame, panes=board.last_words(frame.panes))
