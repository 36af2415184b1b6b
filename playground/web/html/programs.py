"""Records to markup for programs: how to connect one, what they ask now, an agent's run on two models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from markupsafe import Markup

from playground.app.programs.calls import ProgramCall
from playground.app.programs.pairs import AgentAnswer, AgentPair
from playground.app.programs.service import ProgramModel
from playground.settings import Settings
from playground.text_format import count, counted, seconds, speed
from playground.web.html.templates import render

_STATES: Final = {"loading": "loading the model", "reading": "reading the prompt", "writing": "writing",
                  "embedding": "turning texts into vectors"}  # fmt: skip
USUAL_OF_AGENTS: Final = 16_000  # tokens of context
_LONGEST: Final = 20_000  # characters of an answer that are shown


def connect_card(address: str, settings: Settings, models: Sequence[ProgramModel]) -> Markup:
    """The address, the key, the model and snippets. models: those in memory first."""
    if not settings.offers_api:
        return render("programs.html#off")
    key = settings.api_key.get_secret_value()
    shows_key = bool(key) and settings.is_for_this_computer
    needs_key = bool(key or settings.password.get_secret_value())
    models = [one for one in models if not one.embeds]
    model = models[0].name if models else "starter"
    other = models[1].name if len(models) > 1 else "owner/repo:Q4_K_M"
    note = (
        "A program sends the key as its API key." if shows_key
        else "The key is what PLAYGROUND_API_KEY or the password of this page was set to." if needs_key
        else "No key is needed on this computer; where a program insists on one, type anything."
    )  # fmt: skip
    return render(
        "programs.html#connect",
        address=address,
        key=key if shows_key else "",
        key_note=note,
        model=model,
        model_note=_model_note(models, settings),
        snippets=snippets(address, key if shows_key else "YOUR-KEY" if needs_key else "none", model),
        compared=f"compare:{model}|{other}",
    )


def _model_note(models: Sequence[ProgramModel], settings: Settings) -> str:
    size = models[0].context_size if models else None
    if size:
        more = "" if size >= USUAL_OF_AGENTS else f" Agents often need {count(USUAL_OF_AGENTS)} and more."
        return f"It is in memory, with a context of {count(size)} tokens.{more}"
    return (
        f"It is loaded when a program asks for it, with a context of {count(settings.api_context)} tokens, or what it "
        "was trained for. Load it in Chat with a larger one for an agent."
    )


def snippets(address: str, key: str, model: str) -> list[tuple[str, str]]:
    """(what for, what to copy) for the usual clients."""
    return [
        (
            "curl",
            f"curl {address}/chat/completions -H 'Content-Type: application/json' -H 'Authorization: Bearer {key}' \\\n"
            f'  -d \'{{"model": "{model}", "messages": [{{"role": "user", "content": "What is 2+2?"}}]}}\'',
        ),
        (
            "Python, with the package openai",
            f'from openai import OpenAI\n\nclient = OpenAI(base_url="{address}", api_key="{key}")\n'
            f'reply = client.chat.completions.create(\n    model="{model}", messages=[{{"role": "user", "content": '
            '"What is 2+2?"}]\n)\nprint(reply.choices[0].message.content)',
        ),
        ("Environment variables that most programs read", f"OPENAI_BASE_URL={address}\nOPENAI_API_KEY={key}"),
        (
            "Programs that speak Anthropic’s interface, such as Claude Code",
            f"ANTHROPIC_BASE_URL={address.removesuffix('/v1')}\nANTHROPIC_AUTH_TOKEN={key}\nANTHROPIC_MODEL={model}",
        ),
        ("aider", f"OPENAI_API_BASE={address} OPENAI_API_KEY={key} aider --model 'openai/{model}'"),
        (
            "llm: a file extra-openai-models.yaml in the folder that “llm logs path” names",
            f"- model_id: playground\n  model_name: '{model}'\n  api_base: {address}\n  supports_tools: true",
        ),
    ]


def program_calls(calls: Sequence[ProgramCall], served: int) -> Markup:
    """What programs ask now, each with Stop."""
    rows = [
        {
            "number": call.number, "model": call.model, "state": _STATES[call.state], "about": call.about[:120],
            "figures": _figures(call),
        }
        for call in calls
    ]  # fmt: skip
    return render("programs.html#calls", rows=rows, served=served)


def _figures(call: ProgramCall) -> str:
    parts = [counted(call.tokens, "token"), speed(call.tokens_per_second)] if call.tokens else []
    return " · ".join([*parts, f"for {seconds(call.seconds)}"])


def agent_pairs(pairs: Sequence[AgentPair]) -> Markup:
    """Requests of agents that two models have answered."""
    return render("programs.html#pairs", rows=[_pair(pair) for pair in pairs])


def _pair(pair: AgentPair) -> dict[str, Any]:
    difference = pair.difference
    same = difference.common_text if difference else ""
    second = _side(pair.second, same, has_parted=difference is not None)
    if not pair.is_whole:
        waits = "" if pair.problem else "It waits for its turn or for memory, or is being written."
        second |= {"note": pair.problem, "waits": waits}
    return {
        "number": pair.number,
        "asked": pair.asked[:300],
        "verdict": _verdict(pair),
        "first": _side(pair.first, same, has_parted=difference is not None),
        "second": second,
    }


def _verdict(pair: AgentPair) -> str:
    if not pair.is_whole:
        return "The second answer is not there." if pair.problem else "The second answer is on its way."
    calls = _calls_compared(pair)
    difference = pair.difference
    if difference is None:
        same = pair.first.text == pair.second.text and pair.first.called == pair.second.called
        return f"{calls} The answers {'are the same' if same else 'differ'}."
    mine, theirs = difference.choices
    return (
        f"{calls} The answers part after {counted(difference.common_tokens, 'token')}: “{mine.text.strip()}” and "
        f"“{theirs.text.strip()}”."
    )


def _calls_compared(pair: AgentPair) -> str:
    if pair.same_calls:
        return "Both called the same functions with the same arguments."
    if pair.first.calls and pair.second.calls:
        return "They called different functions, or with other arguments."
    if pair.first.calls:
        return "Only the first called a function."
    return "Only the second called a function." if pair.second.calls else "No function was called."


def _side(answer: AgentAnswer, same: str, *, has_parted: bool) -> dict[str, Any]:
    """One answer; what follows the first difference is marked where the common text is the answer's own beginning."""
    text = answer.text[:_LONGEST]
    common = len(same) if has_parted and text.startswith(same) else len(text)
    timings = answer.finished.timings if answer.finished else None
    figures = [counted(timings.generated_tokens or 0, "token"), speed(timings.generation_speed)] if timings else []
    malformed = counted(answer.malformed_calls, "malformed call") if answer.malformed_calls else ""
    return {
        "model": answer.model,
        "figures": " · ".join(figures),
        "thinking": answer.thinking[:_LONGEST],
        "text": text,
        "same": text[:common],
        "rest": text[common:],
        "calls": [f"{call.name}({call.arguments})" for call in answer.calls],
        "note": f"{malformed}, given back as text." if malformed else "",
        "waits": "",
    }
