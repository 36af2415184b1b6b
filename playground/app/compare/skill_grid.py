"""Two levels with a skill and without it: four answers to one question, one after the other, and what the skill costs.

A level's two answers follow each other, so that each model is loaded once.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from typing import Final

from playground.app.compare.comparison import CompareRequest
from playground.app.compare.service import CompareService
from playground.app.compare.updates import PLACE
from playground.app.messages import log_refusal
from playground.chat.comparison import Pane
from playground.chat.conversation import Conversation, ReplyUpdate
from playground.chat.history import check_chat, checked_text
from playground.chat.session import Instructions
from playground.engine.protocol import Event, Finished, Prefilled, Queued
from playground.errors import PlaygroundError, RequestRefused
from playground.limits.run import Run
from playground.limits.visitor import Visitor
from playground.models.model_file import readable_name
from playground.steps import Steps

_WAITS: Final = "waiting"


@dataclass(frozen=True)
class GridCell:
    """One answer. state: what it does now, in a word; problem: why there is none, in a sentence."""

    text: str = ""
    state: str = _WAITS
    problem: str = ""
    finished: Finished | None = None


@dataclass(frozen=True)
class SkillGrid:
    """A row a level: its answers without the skill and with it."""

    question: str
    skill: str
    levels: tuple[str, str]
    cells: tuple[GridCell, ...] = field(default=(GridCell(),) * 4)

    @property
    def rows(self) -> tuple[tuple[str, tuple[GridCell, GridCell]], ...]:
        first, second = self.levels
        return (first, (self.cells[0], self.cells[1])), (second, (self.cells[2], self.cells[3]))

    def with_cell(self, index: int, cell: GridCell) -> SkillGrid:
        return replace(self, cells=(*self.cells[:index], cell, *self.cells[index + 1 :]))


@dataclass(frozen=True)
class GridUpdate:
    """What is new. problem: what ended all of it; is_busy: whether it still works."""

    grid: SkillGrid | None = None
    is_busy: bool = True
    problem: PlaygroundError | None = None


def ask_with_and_without(
    service: CompareService, visitor: Visitor, question: str, request: CompareRequest, skill: Instructions
) -> Iterator[GridUpdate]:
    """Ask both levels without the skill and with it. Uses the comparison's place of a page, so its Stop ends this."""
    try:
        panes = _checked(service, question, request, skill)
    except PlaygroundError as error:
        log_refusal(error, visitor)
        yield GridUpdate(is_busy=False, problem=error)
        return
    with ExitStack() as share:
        try:
            run = share.enter_context(service.runs.start_run(visitor, "comparison", PLACE))
            grid = yield from _answer(service, question, request, skill, panes, run)
        except PlaygroundError as error:
            log_refusal(error, visitor)
            yield GridUpdate(is_busy=False, problem=error)
            return
    yield GridUpdate(grid, is_busy=False)


def _checked(
    service: CompareService, question: str, request: CompareRequest, skill: Instructions
) -> tuple[Conversation, Conversation]:
    """The question without the skill and with it. Raises RequestRefused for none, and for too long a text or reply."""
    if not question.strip():
        raise RequestRefused("There is no question yet.", "Write one in the question box above.")
    checked_text(question, "The message", service.limits)
    service.runs.check_reply_length(request.max_tokens)
    own = request.system.strip()
    with_skill = "\n\n".join(filter(None, (own, skill.text.strip())))
    both = (Conversation(own).with_question(question), Conversation(with_skill).with_question(question))
    for conversation in both:
        check_chat(conversation.system, conversation.messages, service.limits)
    return both


def _answer(
    service: CompareService,
    question: str,
    request: CompareRequest,
    skill: Instructions,
    asked: tuple[Conversation, Conversation],
    run: Run,
) -> Generator[GridUpdate, None, SkillGrid]:
    choices = service.setup.complete_request(request).choices
    levels = (choices[0].level or "", choices[1].level or "")
    if choices[0].model != choices[1].model:
        first, second = (f"{readable_name(choice.model or '')} {choice.level}" for choice in choices)
        levels = (first, second)
    elif levels[0] == levels[1]:
        levels = (f"{levels[0]} (A)", f"{levels[1]} (B)")
    grid = SkillGrid(question, skill.name, levels)
    yield GridUpdate(grid)
    panes: list[Pane] = []
    for row, choice in enumerate(choices):
        with Steps(service.picker.prepare_model(choice, run.is_stopped, run.visitor)) as making:
            for step in making:
                run.restart_wait()
                grid = grid.with_cell(2 * row, GridCell(state=f"making {choice.level}: {step.fraction:.0%}"))
                yield GridUpdate(grid)
            file = making.result
        if file is None or run.is_stopped():
            return _stopped(grid)
        context = service.setup.context(file, choice)
        panes += [Pane(file, context, conversation, choice.thinking) for conversation in asked]
    updates = service.run_panes_in_turn(panes, request, run)
    with closing(updates):
        for update in updates:
            cell = grid.cells[update.pane]
            if update.loading is not None:
                cell = replace(cell, state="loading the model")
            elif update.reply is not None:
                event = update.reply.event
                if event and not isinstance(event, Queued):
                    run.begin_work()
                cell = replace(cell, text=update.reply.answer, state=_state(update.reply, event))
            elif update.result is not None:
                cell = GridCell(update.result.reply.content, "", update.result.remarks, update.result.finished)
            elif update.failed is not None:
                log_refusal(update.failed, run.visitor)
                cell = replace(cell, state="", problem=str(update.failed))
            grid = grid.with_cell(update.pane, cell)
            yield GridUpdate(grid)
            if run.is_stopped():
                return _stopped(grid)
    return grid


def _state(reply: ReplyUpdate, event: Event | None) -> str:
    if reply.answer:
        return "writing"
    if reply.thinking:
        return "thinking"
    return "reading" if event is None or isinstance(event, Prefilled) else "writing"


def _stopped(grid: SkillGrid) -> SkillGrid:
    cells = tuple(cell if cell.finished or cell.problem else replace(cell, state="stopped") for cell in grid.cells)
    return replace(grid, cells=cells)
