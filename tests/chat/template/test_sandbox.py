"""Templates from hostile files: each is refused with a sentence, by a limit on its work and not by a clock."""

from __future__ import annotations

import pytest

from playground.chat.template.budget import TemplateLimits
from playground.chat.template.render import ChatTemplate, Message
from playground.errors import TemplateRefused

NO_CLOCK = TemplateLimits(seconds=1e9)  # what ends these templates must be their budget
TOO_MUCH_WORK = "far more work than a prompt needs"
TOO_MUCH_TEXT = "a text far larger than the conversation"
TOO_WIDE = "pads a text to"
TOO_DEEP = "calls itself more than 50 levels deep|nested too deeply"
HUGE_NUMBER = "absurdly large numbers"


def refusal(source: str, limits: TemplateLimits = NO_CLOCK) -> str:
    with pytest.raises(TemplateRefused) as caught:
        ChatTemplate(source, "", "", limits).render([Message("system", "s"), Message("user", "Hi")])
    return caught.value.problem


REACHING = {
    "{{ ''.__class__ }}": "`__class__`",
    "{{ ''['__class__'] }}": "`__class__`",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}": "`__class__`",
    "{% set x = messages.__class__ %}": "`__class__`",
    "{% if ''.__class__ is defined %}{% endif %}": "`__class__`",
    "{{ raise_exception.__globals__ }}": "`__globals__`",
    "{{ strftime_now.__globals__['datetime'] }}": "`__globals__`",
    "{{ ''.upper.__self__ }}": "`__self__`",
    "{{ dict.mro() }}": "`mro`",
    "{{ dict.fromkeys('ab') }}": "`fromkeys`",
    "{{ namespace.__init__.__globals__ }}": "`__init__`",
    "{{ self.__init__ }}": "`__init__`",
    "{{ self._TemplateReference__context }}": "`_TemplateReference__context`",
    "{{ '{0.__class__}'.format(1) }}": "`__class__`",
    "{{ '{x.__class__}'.format_map({'x': 1}) }}": "`__class__`",
    "{{ ('{0.__class__}' | safe).format(1) }}": "`__class__`",
    "{% for m in messages %}{{ loop.__init__ }}{% endfor %}": "`__init__`",
    "{% for m in messages %}{{ loop._iterator }}{% endfor %}": "`_iterator`",
    "{% macro m() %}{% endmacro %}{{ m._func }}": "`_func`",
    "{{ (messages | map('upper')).gi_frame }}": "`gi_frame`",
    "{{ messages | map(attribute='__class__') | list }}": "`__class__`",
    "{{ messages | selectattr('__class__.__mro__') | list }}": "`__class__`",
    "{{ messages | sort(attribute='__class__') }}": "`__class__`",
    "{{ messages.append(1) }}": "`append`",
    "{{ messages[0].update({'role': 'x'}) }}": "`update`",
    "{{ (1).to_bytes(10, 'big') }}": "`to_bytes`",
    "{{ 'x'.encode('utf-8') }}": "`encode`",
    "{{ cycler.__init__ }}": "`__init__`",
    "{{ undefined_thing._undefined_hint }}": "`_undefined_hint`",
}


@pytest.mark.parametrize(("source", "named"), REACHING.items())
def test_a_template_that_reaches_for_python_is_told_what_it_may_not_touch(source: str, named: str) -> None:
    problem = refusal(source)
    assert f"reaches for {named}, which a chat template may not touch" in problem
    assert "in line 1" in problem


@pytest.mark.parametrize(
    "source", ["{{ lipsum.__globals__ }}", "{{ lipsum(100000) }}", "{{ joiner() }}", "{{ 'x' | attr('__class__') }}"]
)
def test_what_chat_templates_do_not_use_is_not_there(source: str) -> None:
    assert "undefined" in refusal(source) or "No filter named 'attr'" in refusal(source)


@pytest.mark.parametrize("statement", ["include 'x'", "import 'x' as x", "from 'x' import y", "extends 'x'"])
def test_a_template_cannot_bring_in_others(statement: str) -> None:
    word = {"from": "import"}.get(statement.split()[0], statement.split()[0])
    assert f"uses the statement `{word}`" in refusal("{% " + statement + " %}")


def doubling(expression: str, start: str = "'ab'") -> str:
    return f"{{% set n = namespace(a={start}) %}}{{% for i in range(99) %}}{{% set n.a = {expression} %}}{{% endfor %}}"


ENDLESS = {
    "{% for a in range(999) %}{% for b in range(999) %}{% for c in range(999) %}{% endfor %}{% endfor %}{% endfor %}": (
        TOO_MUCH_WORK
    ),
    "{% for a in range(999) %}{% for b in range(999) %}{{ a }}{% endfor %}{% endfor %}": TOO_MUCH_WORK,
    "{% macro m(n) %}{% if n < 40 %}{{ m(n + 1) }}{{ m(n + 1) }}{% endif %}{% endmacro %}{{ m(0) }}": TOO_MUCH_WORK,
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}": TOO_DEEP,
    "{% macro m() %}{% call m() %}{% endcall %}{{ caller }}{% endmacro %}{{ m() }}": TOO_DEEP,
    "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}": TOO_DEEP,
    "{{ range(10**9) }}": TOO_MUCH_WORK,
    "{{ range(10**30) }}": "counts further",
    "{{ range(30000) | list | length }}{{ range(30000) | list | length }}": TOO_MUCH_WORK,
    "{% for a in range(9999) %}{{ range(9999) | select('odd') | list | length }}{% endfor %}": TOO_MUCH_WORK,
    "{% for a in range(999) %}{% if a in range(99999) | list %}{% endif %}{% endfor %}": TOO_MUCH_WORK,
    "{% for a in range(9999) %}{{ (['x' * 900000] * 30000).count('y' * 900000) }}{% endfor %}": TOO_MUCH_WORK,
    "{% for a in range(9999) %}{{ 'y' * 900000 in ['x' * 900000] * 30000 }}{% endfor %}": TOO_MUCH_WORK,
    doubling("[n.a, n.a]", "[1]"): TOO_MUCH_WORK,
    doubling("(n.a, n.a)", "(1,)"): TOO_MUCH_WORK,
    doubling("{'x': n.a, 'y': n.a}", "{}"): TOO_MUCH_WORK,
    doubling("dict(x=n.a, y=n.a)", "{}"): TOO_MUCH_WORK,
    doubling("n.a + n.a", "[1]"): TOO_MUCH_WORK,
    doubling("n.a * 2", "[1]"): TOO_MUCH_WORK,
    doubling("[n.a, n.a] | list", "[1]"): TOO_MUCH_WORK,
}  # fmt: skip

GIGANTIC = {
    "{{ 'a' * 10**9 }}": TOO_MUCH_TEXT,
    "{{ 10**9 * 'a' }}": TOO_MUCH_TEXT,
    "{{ [1] * 10**9 }}": TOO_MUCH_WORK,
    "{{ 'x'.ljust(10**9) }}": TOO_WIDE,
    "{{ 'x'.center(10**9) }}": TOO_WIDE,
    "{{ '1'.zfill(10**9) }}": TOO_WIDE,
    "{{ '%1000000000d' % 1 }}": TOO_WIDE,
    "{{ '%.1000000000f' % 1 }}": TOO_WIDE,
    "{{ '%*d' % (10**9, 1) }}": TOO_WIDE,
    "{{ '%1000000000d' | format(1) }}": TOO_WIDE,
    "{{ '{:>1000000000}'.format('x') }}": TOO_WIDE,
    "{{ '{:>{}}'.format('x', 10**9) }}": TOO_WIDE,
    "{{ '{:.1000000000f}'.format(1) }}": TOO_WIDE,
    "{{ 'x' | indent(10**9, true) }}": TOO_WIDE,
    "{{ 'x\n' | indent('a' * 900000) | indent('a' * 900000) }}": TOO_MUCH_TEXT,
    "{{ strftime_now('%1000000000Y') }}": TOO_WIDE,
    "{{ [1] | tojson(indent=10**9) }}": "indents JSON",
    "{{ [1] | tojson(separators=('a' * 999, 'b')) }}": "indents JSON",
    "{{ ('x' * 100000).join(range(10000)) }}": TOO_MUCH_TEXT,
    "{{ range(10000) | join('x' * 100000) }}": TOO_MUCH_TEXT,
    "{{ ([['x' * 9000] * 100] * 20) | join }}": TOO_MUCH_TEXT,
    "{{ ([['x' * 9000] * 100] * 20) | tojson }}": TOO_MUCH_TEXT,
    "{{ ([['x' * 9000] * 100] * 20) | string }}": TOO_MUCH_TEXT,
    "{{ '%s' % [['x' * 9000] * 100] * 20 }}": TOO_MUCH_TEXT,
    "{{ (['x' * 900000] * 1000) | sort }}": TOO_MUCH_TEXT,
    "{{ ('a' * 900000).replace('a', 'b' * 900000) }}": TOO_MUCH_TEXT,
    "{{ ('a' * 900000) | replace('', 'b' * 900000) }}": TOO_MUCH_TEXT,
    "{{ ('a' * 900000) | replace('a', 'b' * 900000) }}": TOO_MUCH_TEXT,
    "{{ '{0}{0}{0}{0}{0}'.format('a' * 900000) }}": TOO_MUCH_TEXT,
    "{{ '%(a)s%(a)s%(a)s' % {'a': 'x' * 900000} }}": TOO_MUCH_TEXT,
    "{{ ('&' * 900000) | e }}": TOO_MUCH_TEXT,
    "{% set a = 'x' * 900000 %}{{ a ~ a ~ a }}": TOO_MUCH_TEXT,
    "{% set a = 'x' * 900000 %}{% set b = [a[1:], a[2:], a[3:], a[4:], a[5:]] %}": TOO_MUCH_TEXT,
    "{% for i in range(20000) %}" + "x" * 9000 + "{% endfor %}": TOO_MUCH_TEXT,
    "{% set x %}{% for i in range(20000) %}" + "x" * 9000 + "{% endfor %}{% endset %}": TOO_MUCH_TEXT,
    "{% macro m() %}{% for i in range(20000) %}" + "x" * 9000 + "{% endfor %}{% endmacro %}{{ m() }}": TOO_MUCH_TEXT,
    doubling("n.a + n.a"): TOO_MUCH_TEXT,
    doubling("n.a ~ n.a"): TOO_MUCH_TEXT,
    doubling("n.a * 2"): TOO_MUCH_TEXT,
    doubling("n.a.replace('a', 'aa')"): TOO_MUCH_TEXT,
    doubling("'%s%s' % (n.a, n.a)"): TOO_MUCH_TEXT,
    doubling("'{0}{0}'.format(n.a)"): TOO_MUCH_TEXT,
    doubling("[n.a, n.a] | join"): TOO_MUCH_TEXT,
    doubling("''.join([n.a, n.a])"): TOO_MUCH_TEXT,
    "{% set n = namespace(a='x') %}{% for i in range(99) %}{% set n.a %}{{ n.a }}{{ n.a }}{% endset %}{% endfor %}": (
        TOO_MUCH_TEXT
    ),
    doubling("n.a * n.a", "7"): HUGE_NUMBER,
    "{{ 7 ** 7 ** 7 ** 7 ** 7 }}": HUGE_NUMBER,
    "{{ 10 ** -100000000 }}": HUGE_NUMBER,
    "{{ 1.5 | round(10**9) }}": HUGE_NUMBER,
    "{{ ('9' * 100000) | int }}": HUGE_NUMBER,
    "{{ ('f' * 100000) | int(base=16) }}": HUGE_NUMBER,
    "{{ ('a' * 900000).strip('b' * 900000) }}": "searches with `strip`",
    "{{ ('a' * 900000) | trim('b' * 900000) }}": "searches with `trim`",
    "{{ ('a' * 900000).rfind('b' * 400000) }}": "searches with `rfind`",
    "{{ [[1], [2]] | sum(start=[]) }}": "not numbers",
}  # fmt: skip


@pytest.mark.parametrize(("source", "reason"), ENDLESS.items())
def test_endless_work_ends_by_its_budget(source: str, reason: str) -> None:
    assert any(part in refusal(source) for part in reason.split("|"))


@pytest.mark.parametrize(("source", "reason"), GIGANTIC.items())
def test_a_gigantic_value_is_refused_before_it_is_made(source: str, reason: str) -> None:
    assert reason in refusal(source)


@pytest.mark.parametrize("name", ["center", "wordwrap", "urlize", "pprint", "random", "xmlattr", "batch"])
def test_filters_that_only_web_pages_need_do_not_exist(name: str) -> None:
    assert f"No filter named '{name}'" in refusal("{{ 'a b' | " + name + " }}")


def test_nothing_is_calculated_while_a_template_is_read() -> None:
    assert "autoescape" in refusal("{% autoescape 'x' | indent(10**9, true) %}{% endautoescape %}")
    ChatTemplate("{% if false %}{{ 'a' * 10**9 }}{{ 'x' | indent(10**9) }}{% endif %}", "", "").render([])


@pytest.mark.parametrize(
    "source",
    ["{{ " + "(" * 500 + "1" + ")" * 500 + " }}", "{{ " + "+".join("1" * 9000) + " }}", "{{ x" + ".a" * 9000 + " }}"],
)
def test_absurd_nesting_is_an_ordinary_refusal(source: str) -> None:
    assert "nested too deeply" in refusal(source)


def test_a_template_longer_than_any_real_one_is_not_even_read() -> None:
    assert "characters long; the playground reads up to" in refusal("x" * 200_001)


def test_the_clock_is_the_last_resort() -> None:
    assert "was still at work after 0 seconds" in refusal("{{ 'Hi' }}", TemplateLimits(seconds=0))


def test_one_refusal_leaves_the_next_rendering_its_full_budget() -> None:
    greedy = "{% if messages[0].content == 'loop' %}{% for i in range(10**9) %}{% endfor %}{% endif %}fine"
    template = ChatTemplate(greedy, "", "")
    with pytest.raises(TemplateRefused, match=TOO_MUCH_WORK):
        template.render([Message("user", "loop")])
    assert template.render([Message("user", "x")]) == "fine"


@pytest.mark.parametrize(
    "source",
    ["{{ " + "~".join(["a"] * 60_000) + " }}", "{{ " + "<".join(["1"] * 60_000) + " }}", "{{ a }}" * 28_000],
    ids=["sums", "comparisons", "outputs"],
)
def test_a_template_that_takes_long_to_read_is_not_read(source: str) -> None:
    with pytest.raises(TemplateRefused, match="more than 30,000 words and signs"):
        ChatTemplate(source, "", "")
