"""Runs a suite of tasks on a loaded model and scores each answer.

Every answer is greedy and reproducible (engine/local/scheduler.py), so a suite gives the same score again. A model that
can think first is asked not to: its level shows in the answer alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Any, Final

from playground.chat.conversation import Conversation, stream_reply
from playground.chat.history import write_message
from playground.chat.template.message import MalformedCall, Message, ToolCall
from playground.chat.template.thinking import ThinkingChoice
from playground.chat.tools.arguments import CallRefused
from playground.engine.local.client import LocalEngine
from playground.engine.protocol import Finished, ReplyRequest, Token
from playground.engine.remote.engine import RemoteEngine
from playground.engine.remote.protocol import RemoteRequest
from playground.errors import ModelStopped, PlaygroundError, RemoteProblem
from playground.llama.sampling_extras import GREEDY
from playground.measure.abilities.instruction_checks import follows_loosely, follows_strictly
from playground.measure.abilities.tool_calls import ReadCall, problem_of, read_call, tool_prompt
from playground.measure.abilities.tools import TOOLS, run_tool
from playground.measure.results import What
from playground.measure.votes import wilson_interval
from playground.resources import asset, read_toml
from playground.steps import Steps

Step = tuple[str, float, str]  # as measure/run.py yields them
Task = Mapping[str, Any]
Result = dict[str, Any]
Asking = Generator[None, None, Result]  # yields while the model writes
AskedEngine = LocalEngine | RemoteEngine

_MOST_TOKENS: Final[Mapping[What, int]] = {"instructions": 320, "tools": 160, "reasoning": 320}
_CALL: Final = "call00001"  # nine letters and digits, as Mistral's templates demand
_ARITHMETIC: Final = "{text}\nThink step by step, and write the result as the last line: Answer: <number>"
_LONG_CONTEXT: Final = "Read this document.\n\n{document}\n\nQuestion: {text}\nAnswer in a few words."
_DOCUMENT: Final = ("evaluation.txt", "texts/science.txt", "texts/conversation.txt")


def suite_tasks(what: What) -> list[Task]:
    """The tasks of a suite, in a fixed order; the number of a task is its name."""
    return list(read_toml(f"abilities/{what}.toml")["task"])


def run_suite(
    what: What, engine: AskedEngine, most_tasks: int | None, stage: str, most_tokens: int | None = None
) -> Generator[Step, None, tuple[dict[str, Any], list[Result]]]:
    """Yields progress; returns the figures and a result for each task. most_tokens: of an answer; None as usual.

    A task that the model cannot be asked (its template refuses, the context is too small) fails with the reason. Raises
    ModelStopped if the model's process ends, and RemoteProblem if a server does not answer.
    """
    tasks = suite_tasks(what)[:most_tasks]
    results: list[Result] = []
    for number, task in enumerate(tasks):
        step = f"{stage}: task {number + 1} of {len(tasks)}", number / len(tasks), ""
        yield step
        try:
            with Steps(_ASK[what](engine, task, most_tokens or _MOST_TOKENS[what])) as asking:
                for _ in asking:
                    yield step
                result = asking.result
        except (ModelStopped, RemoteProblem):
            raise
        except PlaygroundError as error:
            result = {"prompt": task["text"], "answer": "", "passed": False, "problem": str(error)}
        results.append({"task": number + 1, **result})
    return suite_figures(what, results), results


def suite_figures(what: What, results: Sequence[Result]) -> dict[str, Any]:
    """The score with its 95 % Wilson interval, and what the suite counts besides."""
    passed, items = sum(result["passed"] for result in results), len(results)
    low, high = wilson_interval(passed, items)
    figures: dict[str, Any] = {
        "passed": passed, "items": items, "share": passed / items, "interval_low": low, "interval_high": high,
    }  # fmt: skip
    if what == "instructions":
        figures["passed_loosely"] = sum(bool(result.get("passed_loosely")) for result in results)
    if what == "tools":
        figures["wrong_calls"] = sum(not result.get("call_is_right") for result in results)
    return figures


# --- instructions ---


def _ask_instruction(engine: AskedEngine, task: Task, most_tokens: int) -> Asking:
    answer = yield from _answer_of(engine, task["text"], most_tokens)
    passed = follows_strictly(answer, task["checks"])
    types = ", ".join(check["type"] for check in task["checks"])
    return {
        "prompt": task["text"],
        "answer": answer,
        "passed": passed,
        "passed_loosely": passed or follows_loosely(answer, task["checks"]),
        "problem": "" if passed else f"not kept: {types}",
    }


# --- tools ---


def _ask_tool(engine: AskedEngine, task: Task, most_tokens: int) -> Asking:
    """The call, what the tool returns, and the answer that the model makes of it."""
    messages = [Message("user", task["text"])]
    first, own_format = yield from _raw_reply(engine, messages, most_tokens)
    call = read_call(first)
    problem = problem_of(call, task)
    result: Result = {
        "prompt": task["text"], "answer": first, "passed": False, "problem": problem, "call_is_right": not problem,
        "own_format": own_format,
    }  # fmt: skip
    if isinstance(call, MalformedCall):
        result["broken"] = asdict(call)
    if problem:
        return result
    if not isinstance(call, ReadCall):
        return result | _judged(first, task)
    try:
        returned = run_tool(call.name, call.arguments)
    except CallRefused as error:
        return result | {"problem": str(error), "call_is_right": False}
    made = ToolCall(call.name, json.dumps(dict(call.arguments)), _CALL)
    messages += [
        Message("assistant", "", tool_calls=(made,)),
        Message("tool", json.dumps(returned), answers=_CALL),
    ]
    last, _ = yield from _raw_reply(engine, messages, most_tokens)
    return result | {"returned": returned, "final_answer": last} | _judged(last, task)


def _judged(answer: str, task: Task) -> Result:
    """Whether one of the expected words is in the answer; any will do where none is expected."""
    wanted = task["answer"]
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", answer).lower()
    passed = not wanted or any(str(word).lower() in plain for word in wanted)
    return {"passed": passed, "problem": "" if passed else f"the answer does not have {' or '.join(map(str, wanted))}"}


def _raw_reply(
    engine: AskedEngine, messages: Sequence[Message], most_tokens: int
) -> Generator[None, None, tuple[str, bool]]:
    """As the model wrote it, and whether the tools were given in its own format: a server is given them by the API."""
    if isinstance(engine, RemoteEngine):
        turns, own_format = [write_message(message) for message in messages], True
        asked = engine.start_reply(RemoteRequest(turns, GREEDY, most_tokens, tools=TOOLS, thinks=False))
    else:
        prompt, own_format = tool_prompt(engine.loaded, messages)
        asked = engine.start_reply(ReplyRequest(prompt, GREEDY, most_tokens, ("<|im_end|>",), reproducible=True))
    pieces: list[str] = []
    with asked as stream:
        for event in stream:
            if isinstance(event, Token | Finished):
                pieces.append(event.text)
            yield
    return "".join(pieces).strip(), own_format


# --- arithmetic and long contexts ---


def _ask_reasoning(engine: AskedEngine, task: Task, most_tokens: int) -> Asking:
    if task["kind"] == "arithmetic":
        answer = yield from _answer_of(engine, _ARITHMETIC.format(text=task["text"]), most_tokens)
        found = last_number(answer)
        passed = found is not None and abs(found - float(task["answer"])) < 1e-6
        problem = "" if passed else f"the last number is {found:g}" if found is not None else "there is no number"
    else:
        prompt = _LONG_CONTEXT.format(document=document_with(task["fact"], task["place"]), text=task["text"])
        answer = yield from _answer_of(engine, prompt, min(48, most_tokens))
        passed = str(task["answer"]).lower() in answer.lower()
        problem = "" if passed else "it was not found in the document"
    wanted = f"{problem}; {task['answer']} is right" if problem else ""
    return {"prompt": task["text"], "kind": task["kind"], "answer": answer, "passed": passed, "problem": wanted}


def last_number(text: str) -> float | None:
    """The number after the last "Answer:", else the last one of the text."""
    after = text.rpartition("Answer:")[2] if "Answer:" in text else text
    numbers = re.findall(r"-?\d+(?:\.\d+)?", re.sub(r"(?<=\d),(?=\d{3})", "", after))
    if not numbers:
        return None
    return float(numbers[0] if "Answer:" in text else numbers[-1])


def document_with(fact: str, place: float) -> str:
    """Our own texts as one document, with a fact as a paragraph of its own at this share of it."""
    paragraphs = [part for name in _DOCUMENT for part in asset(name).read_text(encoding="utf-8").split("\n\n")]
    paragraphs.insert(round(place * len(paragraphs)), fact)
    return "\n\n".join(paragraphs)


def _answer_of(engine: AskedEngine, question: str, most_tokens: int) -> Generator[None, None, str]:
    """The answer without the thoughts of a model that thinks all the same."""
    conversation = Conversation().with_question(question)
    update = None
    asked = stream_reply(engine, conversation, GREEDY, most_tokens, thinking=ThinkingChoice(False), reproducible=True)
    with closing(asked) as reply:
        for update in reply:  # noqa: B007 the last one has the whole answer
            yield
    return update.message.content.strip() if update else ""


_ASK: Final = {
    "instructions": _ask_instruction,
    "tools": _ask_tool,
    "reasoning": _ask_reasoning,
}
