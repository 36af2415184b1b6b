"""The process that renders chat templates: `python -m playground.chat.template.renderer`, over Jinja's own sandbox.

A chat template is a program from a model file. It runs in Jinja's ImmutableSandboxedEnvironment, in a process that may
neither open a file or connection nor start a process, and has little memory; the parent (renderer_process.py) kills it
when it takes too long. It has this process to itself, and not a model's: there a hostile template would end other
people's replies. Each line of the input is a JSON object, and gets one as its answer:

    {"source": text, "seconds": most CPU time}
        -> {"names": [of the variables that the template reads]}
    {"source": text, "seconds": …, "variables": {name: value}, "most_characters": of the prompt}
        -> {"prompt": text}
    each -> {"refused": "stopped", "objects" or "fails", "why": the end of a sentence that begins "The chat template"}
"""

from __future__ import annotations

import datetime
import functools
import json
import re
import signal
import traceback
from typing import Any, Final, NoReturn

import jinja2
from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from playground.machine.child_process import open_child_pipes
from playground.machine.confinement import confine_to_computing

MOST_BYTES: Final = 288 << 20  # of memory: 30 MiB for the process itself, the rest for a template and its conversation
_MOST_COMPILED: Final = 16  # templates kept compiled
_LONGEST_MESSAGE: Final = 300  # characters of what a template says
# Makes Jinja and Python load what they would load late, when this process can no longer open a file.
_WARM_UP: Final = (
    "{{ strftime_now('%d %b %Y') }}{{ [1] | tojson(indent=2) }}{{ {'a': 1} | pprint }}{{ missing.attribute }}"
)

Answer = dict[str, Any]


class TooLong(Exception):
    """The prompt is longer than the request allows."""


def main() -> None:
    commands, answers = open_child_pipes()
    answer_request({"source": _WARM_UP, "variables": {}, "most_characters": 1000})
    confine_to_computing(MOST_BYTES)
    answers.write(b'{"ready": true}\n')
    for line in commands:
        request = json.loads(line)
        # The parent kills a process that takes too long; if the parent is gone, the kernel does it a little later.
        signal.setitimer(signal.ITIMER_PROF, request["seconds"] + 1)
        answer = answer_request(request)
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(json.dumps(answer).encode() + b"\n")


def answer_request(request: Answer) -> Answer:
    try:
        if "variables" in request:
            return {"prompt": render(request["source"], request["variables"], request["most_characters"])}
        return {"names": read_names(request["source"])}
    except TooLong:
        return _refused("stopped", "was stopped: it makes a text far larger than the conversation.")
    except SecurityError as error:
        return _refused("stopped", f"was stopped{_line_of(error)}: it {error}.")
    except RecursionError:
        return _refused("stopped", "was stopped: it is nested too deeply, or calls itself without end.")
    except jinja2.TemplateSyntaxError as error:
        return _refused("fails", f"has an error in line {error.lineno}: {_one_line(error.message)}")
    except MemoryError:
        pass  # what it holds is free again only after this block
    except Exception as error:
        if type(error) is jinja2.TemplateError:  # by raise_exception, in the template's own words
            return _refused("objects", f"does not take this conversation: {_one_line(str(error))}")
        return _refused("fails", f"fails{_line_of(error)}: {_one_line(str(error) or type(error).__name__)}")
    return _refused("stopped", "was stopped: it takes far more memory than a prompt needs.", out_of_memory=True)


def render(source: str, variables: dict[str, Any], most_characters: int) -> str:
    """The prompt. Raises TooLong, and any error that the template raises."""
    template, _ = _compile(source)
    pieces: list[str] = []
    left = most_characters
    for piece in template.generate(**variables):
        left -= len(piece)
        if left < 0:
            raise TooLong
        pieces.append(piece)
    return "".join(pieces)


def read_names(source: str) -> list[str]:
    """The variables that the template reads and does not set itself."""
    return _compile(source)[1]


@functools.lru_cache(maxsize=_MOST_COMPILED)
def _compile(source: str) -> tuple[jinja2.Template, list[str]]:
    return _ENVIRONMENT.from_string(source), sorted(meta.find_undeclared_variables(_ENVIRONMENT.parse(source)))


# --- what templates expect, as Hugging Face's transformers gives it to them ---


class _GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks the assistant's part for training; here it is its body alone."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _Environment(ImmutableSandboxedEnvironment):
    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, LoopControlExtension])
        self.filters["tojson"] = _to_json
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        """Jinja's own gives a value that fails when it is used; a sentence at once names what was reached for."""
        raise SecurityError(f"reaches for `{attribute[:80]}`, which a chat template may not touch")


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON that is not escaped for web pages, with the letters of any alphabet as they are."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: Any) -> NoReturn:
    raise jinja2.TemplateError(str(message))


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


_ENVIRONMENT: Final = _Environment()


# --- sentences ---


def _refused(kind: str, why: str, **more: bool) -> Answer:
    return {"refused": kind, "why": why, **more}


def _line_of(error: Exception) -> str:
    frames = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if frame.f_code.co_filename == "<template>"]
    return f" in line {lines[-1]}" if lines else ""


def _one_line(text: str | None) -> str:
    words = re.sub(r"\s+", " ", (text or "")[: 10 * _LONGEST_MESSAGE]).strip()
    words = words if len(words) <= _LONGEST_MESSAGE else words[: _LONGEST_MESSAGE - 1] + "…"
    return words if words.endswith((".", "!", "?", "…")) else words + "."


if __name__ == "__main__":
    main()
