"""Templates from hostile files: none does any harm, and each ends in a sentence or in a short prompt."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from playground.chat.template.message import Message
from playground.chat.template.render import ChatTemplate
from playground.chat.template.renderer_process import MODULE, TemplateLimits, TemplateRenderer
from playground.errors import PlaygroundError, TemplateRefused
from playground.machine.child_process import ChildProcess

STILL_AT_WORK = "it was still at work after"
TOO_MUCH_TEXT = "a text far larger than the conversation"
TOO_MUCH_MEMORY = "far more memory than a prompt needs"
TOO_DEEP = "nested too deeply"
FOREVER = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"
HUNGRY = "{{ 'a' * 10**9 }}"


@pytest.fixture(scope="module")
def renderer() -> Iterator[TemplateRenderer]:
    with TemplateRenderer() as renderer:
        yield renderer


@pytest.fixture(scope="module")
def impatient() -> Iterator[TemplateRenderer]:
    """For templates that would go on for ever."""
    with TemplateRenderer(TemplateLimits(seconds=0.3)) as renderer:
        yield renderer


def prompt_of(source: str, renderer: TemplateRenderer) -> str:
    return ChatTemplate(source, "", "", renderer).render([Message("system", "s"), Message("user", "Hi")])


def refusal(source: str, renderer: TemplateRenderer) -> str:
    with pytest.raises(TemplateRefused) as caught:
        prompt_of(source, renderer)
    assert "\n" not in caught.value.problem and len(caught.value.problem) < 500
    return caught.value.problem


def process_id(renderer: TemplateRenderer) -> int | None:
    """Of the child, if there is one."""
    return renderer._child.pid if renderer._child else None


# --- what a template may not touch ---

REACHING = {
    "{{ ''.__class__ }}": "`__class__`",
    "{{ ''['__class__'] }}": "`__class__`",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}": "`__class__`",
    "{% set x = messages.__class__ %}": "`__class__`",
    "{% if ''.__class__ is defined %}{% endif %}": "`__class__`",
    "{{ 'x' | attr('__class__') }}": "`__class__`",
    "{{ raise_exception.__globals__ }}": "`__globals__`",
    "{{ strftime_now.__globals__['datetime'] }}": "`__globals__`",
    "{{ lipsum.__globals__ }}": "`__globals__`",
    "{{ ''.upper.__self__ }}": "`__self__`",
    "{{ dict.mro() }}": "`mro`",
    "{{ namespace.__init__.__globals__ }}": "`__init__`",
    "{{ self.__init__ }}": "`__init__`",
    "{{ self._TemplateReference__context }}": "`_TemplateReference__context`",
    "{{ '{0.__class__}'.format(1) }}": "`__class__`",
    "{{ '{x.__class__}'.format_map({'x': 1}) }}": "`__class__`",
    "{{ ('{0.__class__}' | safe).format(1) }}": "`__class__`",
    "{% set f = '{0.__class__}'.format %}{{ f(1) }}": "`__class__`",
    "{% for m in messages %}{{ loop.__init__ }}{% endfor %}": "`__init__`",
    "{% for m in messages %}{{ loop._iterator }}{% endfor %}": "`_iterator`",
    "{% macro m() %}{% endmacro %}{{ m._func }}": "`_func`",
    "{{ (messages | map('upper')).gi_frame }}": "`gi_frame`",
    "{{ messages | map(attribute='__class__') | list }}": "`__class__`",
    "{{ messages | selectattr('__class__.__mro__') | list }}": "`__class__`",
    "{{ messages | sort(attribute='__class__') }}": "`__class__`",
    "{{ messages.append(1) }}": "`append`",
    "{{ messages[0].update({'role': 'x'}) }}": "`update`",
    "{{ cycler.__init__ }}": "`__init__`",
    "{{ undefined_thing._undefined_hint }}": "`_undefined_hint`",
}


@pytest.mark.parametrize(("source", "named"), REACHING.items())
def test_a_template_that_reaches_for_python_is_refused(source: str, named: str, renderer: TemplateRenderer) -> None:
    problem = refusal(source, renderer)
    assert f"reaches for {named}, which a chat template may not touch" in problem
    assert "in line 1" in problem


@pytest.mark.parametrize("statement", ["include 'x'", "import 'x' as x", "from 'x' import y", "extends 'x'"])
def test_a_template_cannot_bring_in_others(statement: str, renderer: TemplateRenderer) -> None:
    assert "no loader" in refusal("{% " + statement + " %}", renderer)


@pytest.mark.parametrize("encoding", ["cp037", "idna", "zlib_codec", "../../x"])
def test_a_template_cannot_make_python_load_a_module(encoding: str, renderer: TemplateRenderer) -> None:
    assert "fails in line 1" in refusal("{{ 'x'.encode('" + encoding + "') }}", renderer)


# --- what would never end, or would be gigantic ---


def doubling(expression: str, start: str = "'ab'") -> str:
    return f"{{% set n = namespace(a={start}) %}}{{% for i in range(99) %}}{{% set n.a = {expression} %}}{{% endfor %}}"


SLOW = [
    FOREVER,
    "{% for a in range(9999) %}{% for b in range(9999) %}{{ '' }}{% endfor %}{% endfor %}",
    "{% macro m(n) %}{% if n < 40 %}{{ m(n + 1) }}{{ m(n + 1) }}{% endif %}{% endmacro %}{{ m(0) }}",
    "{% for a in range(9999) %}{{ range(9999) | select('odd') | list | length }}{% endfor %}",
    "{% for a in range(999) %}{% if a in range(99999) | list %}{% endif %}{% endfor %}" * 9,
    "{% for a in range(9999) %}{{ (['x' * 900000] * 30000).count('y' * 900000) }}{% endfor %}",
    doubling("n.a * n.a", "7"),  # a number: Python does not look at signals while it multiplies
    doubling("[n.a, n.a]", "[1]") + "{{ n.a == n.a }}" + FOREVER,
]

REFUSED = {
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}": TOO_DEEP,
    "{% macro m() %}{% call m() %}{% endcall %}{{ caller }}{% endmacro %}{{ m() }}": TOO_DEEP,
    "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}": TOO_DEEP,
    "{{ " + "(" * 500 + "1" + ")" * 500 + " }}": TOO_DEEP,
    "{{ " + "+".join("1" * 9000) + " }}": TOO_DEEP,
    "{{ x" + ".a" * 9000 + " }}": TOO_DEEP,
    "{{ range(10**9) }}": "Range too big",
    "{{ range(10**30) }}": "too large",
    "{{ ('x' * 100000).join(range(10000)) }}": "expected str",
    "{{ ('f' * 100000) | int(base=16) }}": "4300 digits",
    "{% for i in range(20000) %}" + "x" * 9000 + "{% endfor %}": TOO_MUCH_TEXT,
    "{% macro m() %}{% for i in range(2000) %}" + "x" * 9000 + "{% endfor %}{% endmacro %}{{ m() }}": TOO_MUCH_TEXT,
    "{{ '{0}{0}{0}{0}{0}'.format('a' * 900000) }}": TOO_MUCH_TEXT,
    "{{ '%(a)s%(a)s%(a)s' % {'a': 'x' * 900000} }}": TOO_MUCH_TEXT,
    "{{ ('&' * 900000) | e }}": TOO_MUCH_TEXT,
    "{% set a = 'x' * 900000 %}{{ a ~ a ~ a }}": TOO_MUCH_TEXT,
    "{{ 'x\n' | indent('a' * 900000, true) | indent('a' * 900000, true) }}": TOO_MUCH_TEXT,
}  # fmt: skip

HUNGRY_ONES = [
    HUNGRY,
    "{{ 10**9 * 'a' }}",
    "{{ [1] * 10**9 }}",
    "{{ 'x'.ljust(10**9) }}",
    "{{ 'x' | center(10**9) }}",
    "{{ '1'.zfill(10**9) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%.1000000000f' % 1 }}",
    "{{ '%*d' % (10**9, 1) }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ '{:>1000000000}'.format('x') }}",
    "{{ '{:>{}}'.format('x', 10**9) }}",
    "{{ '{:.1000000000f}'.format(1) }}",
    "{{ 'x' | indent(10**9, true) }}",
    "{{ [1] | tojson(indent=10**9) }}",
    "{{ range(10000) | join('x' * 100000) }}",
    "{{ ('a' * 900000).replace('a', 'b' * 900000) }}",
    "{{ ('a' * 900000) | replace('', 'b' * 900000) }}",
    doubling("n.a + n.a"),
    doubling("n.a ~ n.a"),
    doubling("n.a * 2"),
    doubling("'%s%s' % (n.a, n.a)"),
    doubling("'{0}{0}'.format(n.a)"),
    doubling("[n.a, n.a] | join"),
    doubling("''.join([n.a, n.a])"),
    doubling("n.a + n.a", "[1]"),
    doubling("n.a * 2", "[1]"),
    "{% set n = namespace(a='x') %}{% for i in range(99) %}{% set n.a %}{{ n.a }}{{ n.a }}{% endset %}{% endfor %}",
]

# What looks bad and costs next to nothing is rendered, as Hugging Face's own renderer does.
HARMLESS = {
    "{{ dict.fromkeys('ab') }}": "{'a': None, 'b': None}",
    "{{ (1).to_bytes(2, 'big') }}": "b'\\x00\\x01'",
    "{{ 'x'.encode('utf-8') }}": "b'x'",
    "{{ 10 ** -100000000 }}": "0.0",
    "{{ 1.5 | round(10**9) }}": "1.5",
    "{{ [[1], [2]] | sum(start=[]) }}": "[1, 2]",
    "{{ [1] | tojson(separators=('a' * 999, 'b')) }}": "[1]",
    "{{ strftime_now('%1000000000Y') }}": "",
    "{{ ('a' * 900000).rfind('b' * 400000) }}": "-1",
    "{{ ('a' * 900).strip('b' * 900) | length }}": "900",
    "{{ range(30000) | list | length }}": "30000",
    "{% if false %}{{ 'a' * 10**9 }}{{ 'x' | indent(10**9) }}{% endif %}": "",
    doubling("[n.a, n.a]", "[1]"): "",
    doubling("{'x': n.a, 'y': n.a}", "{}"): "",
}  # fmt: skip


@pytest.mark.parametrize("source", SLOW)
def test_a_template_that_would_not_end_is_stopped(source: str, impatient: TemplateRenderer) -> None:
    assert STILL_AT_WORK in refusal(source, impatient)


@pytest.mark.parametrize("source", HUNGRY_ONES)
def test_a_template_that_would_fill_the_memory_is_stopped(source: str, renderer: TemplateRenderer) -> None:
    assert TOO_MUCH_MEMORY in refusal(source, renderer)


@pytest.mark.parametrize(("source", "reason"), REFUSED.items())
def test_a_template_that_goes_too_far_is_refused_with_the_reason(
    source: str, reason: str, renderer: TemplateRenderer
) -> None:
    assert reason in refusal(source, renderer)


@pytest.mark.parametrize(("source", "prompt"), HARMLESS.items())
def test_what_costs_nothing_is_rendered(source: str, prompt: str, renderer: TemplateRenderer) -> None:
    assert prompt_of(source, renderer) == prompt


@pytest.mark.parametrize(
    "expression",
    ["([['x' * 9000] * 100] * 20) | join", "([['x' * 9000] * 100] * 20) | tojson", "(['x' * 900000] * 1000) | sort",
     "('a' * 900000) | trim('b' * 900000) | length", "doubled | tojson", "doubled | string", "doubled == doubled2"],
)  # fmt: skip
def test_what_takes_long_or_writes_much_ends_in_a_sentence(expression: str, impatient: TemplateRenderer) -> None:
    start = "{% set n = namespace(a=[1], b=[1]) %}{% for i in range(40) %}{% set n.a, n.b = [n.a, n.a], [n.b, n.b] %}"
    start += "{% endfor %}"
    source = f"{start}{{{{ {expression.replace('doubled2', 'n.b').replace('doubled', 'n.a')} }}}}{FOREVER}"
    assert refusal(source, impatient)


def test_a_template_longer_than_any_real_one_is_not_even_read(renderer: TemplateRenderer) -> None:
    assert "characters long; the playground reads up to" in refusal("x" * 200_001, renderer)


@pytest.mark.parametrize(
    "source",
    ["{{ " + "~".join(["a"] * 60_000) + " }}", "{{ " + "<".join(["1"] * 60_000) + " }}", "{{ a }}" * 28_000],
    ids=["sums", "comparisons", "outputs"],
)
def test_a_template_that_takes_long_to_read_is_stopped(source: str, impatient: TemplateRenderer) -> None:
    with pytest.raises(TemplateRefused, match=STILL_AT_WORK):
        ChatTemplate(source, "", "", impatient)


# --- the process ---


@pytest.mark.parametrize(("source", "reason"), [(FOREVER, STILL_AT_WORK), (HUNGRY, TOO_MUCH_MEMORY)])
def test_a_template_that_was_stopped_is_refused_at_once_and_others_go_on(source: str, reason: str) -> None:
    with TemplateRenderer(TemplateLimits(seconds=1)) as renderer:
        assert reason in refusal(source, renderer)
        assert reason in refusal(source, renderer)
        assert process_id(renderer) is None, "it was not tried again"
        assert prompt_of("fine", renderer) == "fine"


def test_a_template_that_was_stopped_gets_another_chance_later() -> None:
    source = "{% if messages[0].content == 'loop' %}" + FOREVER + "{% endif %}fine"
    with TemplateRenderer(TemplateLimits(seconds=1, refused_seconds=0)) as renderer:
        template = ChatTemplate(source, "", "", renderer)
        with pytest.raises(TemplateRefused, match=STILL_AT_WORK):
            template.render([Message("user", "loop")])
        assert template.render([Message("user", "x")]) == "fine"


def test_a_process_that_is_killed_between_two_prompts_is_replaced() -> None:
    with TemplateRenderer() as renderer:
        assert prompt_of("fine", renderer) == "fine"
        first = process_id(renderer)
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert prompt_of("fine again", renderer) == "fine again"
        assert process_id(renderer) != first


def test_closing_ends_the_process_and_a_later_prompt_starts_another() -> None:
    renderer = TemplateRenderer()
    assert prompt_of("fine", renderer) == "fine"
    first = process_id(renderer)
    assert first is not None
    renderer.close()
    assert not psutil.pid_exists(first)
    assert prompt_of("fine", renderer) == "fine"
    renderer.close()


def test_many_threads_get_their_own_prompts(renderer: TemplateRenderer) -> None:
    def prompt(number: int) -> str:
        return ChatTemplate("{{ messages[0].content }}", "", "", renderer).render([Message("user", f"{number}")])

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(prompt, range(100))) == [str(number) for number in range(100)]


def test_the_kernel_ends_a_template_whose_parent_cannot() -> None:
    """Its thread that watches the parent never gets its turn while Python multiplies."""
    request = {"source": "{{ 3 ** 99999999 % 7 }}", "variables": {}, "most_characters": 9, "seconds": -0.9}
    with ChildProcess(MODULE) as child:
        child.read_line(60)
        child.send_line(json.dumps(request).encode())
        assert child.wait_for_exit() == -signal.SIGPROF


def test_a_process_that_cannot_start_is_an_ordinary_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(PlaygroundError, match=r"cannot be started: .*No such file"):
        prompt_of("fine", TemplateRenderer())
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(PlaygroundError, match="cannot be started"):
        prompt_of("fine", TemplateRenderer())
