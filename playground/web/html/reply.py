"""The figures of a reply and of a load: the live line, its detail, the context meter, the progress.

Starts no clock and divides nothing: the engine's events carry the facts. Every line keeps its height from the first
moment, so that nothing on the page jumps while a reply streams.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from playground.app.messages import WorkProgress
from playground.engine.protocol import (
    FINISH_SENTENCES,
    FINISH_WORDS,
    Event,
    Finished,
    Prefilled,
    Queued,
    Timings,
    Token,
)
from playground.limits.run import StoppedBy
from playground.text_format import (
    UNKNOWN,
    about,
    count,
    counted,
    percent,
    seconds,
    speed,
)
from playground.web.html.memory import predicted_beside_measured
from playground.web.html.page import progress_bar

if TYPE_CHECKING:
    from playground.engine.protocol import Memory
    from playground.fit.plan import MemoryPlan

_STOPPED_WORDS: Final[dict[StoppedBy, str]] = {
    "person": FINISH_WORDS["cancelled"],
    "time": "ended by the time limit",
    "shutdown": "the playground is shutting down",
}
NEARLY_FULL = 0.9  # of the context: from here the meter says so


def live_line(event: Event | None, *, stopped: StoppedBy | None = None) -> str:
    """What happens now: `12.3 tok/s · 512 tokens · 0.34 s to first token · finished`.

    None shows the line at rest. stopped: who broke the reply off after this event.
    """
    if stopped:
        written = _written(event) if isinstance(event, Token) else []
        return _line("ended", [*written, _STOPPED_WORDS[stopped]], announce="Reply stopped.")
    if isinstance(event, Queued):
        return _line("waits", [_waiting(event.position), f"begins in {about(event.wait_seconds)}"])
    if isinstance(event, Prefilled):
        done = event.done / event.total if event.total else 1.0
        kept = [f"{count(event.cached)} of them still in the cache"] if event.cached else []
        return _line("reads", [f"Reading your text: {percent(done)} of {counted(event.total, 'token')}", *kept])
    if isinstance(event, Token):
        return _line("writes", _written(event))
    if isinstance(event, Finished):
        timings = event.timings
        figures = [
            _rate(timings.generation_speed),
            counted(timings.generated_tokens, "token"),
            f"{seconds(timings.time_to_first_token)} to first token",
            f'<span title="{escape(FINISH_SENTENCES[event.reason], quote=True)}">{FINISH_WORDS[event.reason]}</span>',
        ]
        return _line("ended", figures, announce=f"Reply ended: {FINISH_WORDS[event.reason]}.")
    return _line("rests", ["The speed will show here"])


def _written(token: Token) -> list[str]:
    first = token.time_to_first_token
    waited = [f"{seconds(first)} to first token"] if first is not None else []
    return [_rate(token.tokens_per_second), counted(token.count, "token"), *waited]


def _line(kind: str, parts: list[str], announce: str = "") -> str:
    body = '<span class="gp-dot"> · </span>'.join(f"<span>{part}</span>" for part in parts)
    return (
        f'<div class="gp-live gp-live-{kind}"><span class="gp-pulse" aria-hidden="true"></span>'
        f'<p>{body}</p><span class="gp-hidden" role="status">{announce}</span></div>'
    )


def _rate(tokens_per_second: float | None) -> str:
    return f'<b class="gp-rate">{speed(tokens_per_second)}</b>'


def _waiting(place: int) -> str:
    if place <= 1:
        return "Waiting for a free place: you are next"
    return f"Waiting for a free place: {counted(place - 1, 'chat')} before you"


def reply_details(timings: Timings, plan: MemoryPlan | None, memory: Memory | None) -> str:
    """A folded table below the live line: how the prompt was read, and the memory predicted beside measured."""
    facts = (
        ("Prompt", counted(timings.prompt_tokens, "token")),
        ("of them still in the KV cache", count(timings.cached_tokens)),
        ("Prompt speed", speed(timings.prompt_speed)),
        ("Waited in the queue", seconds(timings.queued_seconds)),
        ("Time to first token", seconds(timings.time_to_first_token)),
        ("Writing speed", speed(timings.generation_speed)),
        ("Whole reply", seconds(timings.total_seconds)),
        ("Processor threads", count(timings.threads)),
    )
    rows = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    compared = predicted_beside_measured(plan, memory) if plan and memory else ""
    return (
        '<details class="gp-details"><summary>Details of this reply</summary>'
        f'<div class="gp-details-body"><dl class="gp-facts">{rows}</dl>{compared}</div></details>'
    )


def context_meter(used: int | None, size: int | None) -> str:
    """How much of the context this chat holds, in tokens; says so when it is nearly full."""
    if not size:
        held = UNKNOWN if used is None else counted(used, "token")
        return f'<div class="gp-context"><p>Context <b>{held}</b></p></div>'
    shown = min(used or 0, size)
    share = shown / size
    warning = " · nearly full" if share >= NEARLY_FULL else ""
    words = f"{UNKNOWN if used is None else count(used)} of {count(size)} tokens{warning}"
    return (
        f'<div class="gp-context{" gp-context-full" if warning else ""}" role="meter" aria-label="Context used"'
        f' aria-valuemin="0" aria-valuemax="{size}" aria-valuenow="{shown}" aria-valuetext="{words}">'
        f"<p>Context <b>{words}</b></p>"
        f'<div class="gp-context-track"><span style="width:{100 * share:.1f}%"></span></div></div>'
    )


def load_progress(fraction: float | None, stage: str) -> str:
    """Progress of a load with what it does, as `Loading SmolLM2 135M · Q4_1 — 43%`; None where the share is unknown."""
    return progress_bar(WorkProgress(stage, fraction))
