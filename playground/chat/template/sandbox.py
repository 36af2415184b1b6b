"""A Jinja environment in which a template from a stranger's model file can do nothing but write a prompt.

Knows nothing of messages or models. Two ideas. What is not known to be harmless is refused: filters, methods and
attributes are lists of what chat templates use, not lists of what is dangerous. And what is harmless is counted: the
syntax tree is rewritten so that every loop, container, text and comparison passes by the Budget before it can grow.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from string import Formatter
from typing import Any, Final, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Namespace, pass_context
from jinja2.visitor import NodeTransformer

from playground.chat.template.budget import BUDGET, MOST_INTEGER_BITS, Budget, Refusal, refuse_number
from playground.chat.template.paid_text import call_text_method, check_width, joined, percent_format
from playground.chat.template.sandbox_filters import FILTERS, TESTS


def _names(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_TEXT_METHODS: Final = _names(
    """capitalize casefold center count endswith find format format_map index isalnum isalpha isascii isdecimal isdigit
    islower isnumeric isspace istitle isupper join ljust lower lstrip partition removeprefix removesuffix replace rfind
    rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title upper zfill"""
)
_LOOP_ATTRIBUTES: Final = _names(
    "index index0 revindex revindex0 first last length depth depth0 previtem nextitem cycle changed"
)
_ATTRIBUTES: Final[tuple[tuple[type, frozenset[str]], ...]] = (
    (str, _TEXT_METHODS),
    (dict, _names("get items keys values copy")),
    (list, _names("count index copy")),
    (tuple, _names("count index")),
    (Macro, _names("name arguments caller")),
    (LoopContext, _LOOP_ATTRIBUTES),
)

_JINJAS_OWN_ARGUMENTS: Final = ("_loop_vars", "_block_vars")  # compiled calls inside loops carry them

_REFUSED_STATEMENTS: Final[dict[type[nodes.Node], str]] = {
    nodes.Include: "include",
    nodes.Import: "import",
    nodes.FromImport: "import",
    nodes.Extends: "extends",
    nodes.Block: "block",
    nodes.ScopedEvalContextModifier: "autoescape",
}


class Sandbox(ImmutableSandboxedEnvironment):
    """Compiles and runs chat templates as Hugging Face's own renderer does, within the limits of BUDGET."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[GenerationTag, LoopControlExtension],
            optimized=False,  # the optimizer would calculate constants such as 'a' * 10**9 before there is a budget
            finalize=_written,
            cache_size=0,
        )
        self.globals = {
            "range": _range,
            "dict": dict,
            "namespace": QuietNamespace,
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }
        self.filters = {name: _paid(function) for name, function in FILTERS.items()} | _GUARDS
        self.tests = {name: _paid_test(function) for name, function in TESTS.items()}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        return _Guarding().visit(tree)  # type: ignore[no-any-return]

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, Namespace):
            return not attr.startswith("_")
        return any(attr in allowed for kind, allowed in _ATTRIBUTES if isinstance(obj, kind))

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        raise Refusal(f"reaches for `{attribute[:80]}`, which a chat template may not touch")

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        text = getattr(value, "__self__", None)
        name = getattr(value, "__name__", "")
        if not isinstance(text, str) or name not in ("format", "format_map"):
            return None
        formatter = _CountingFormatter(self)

        def format_text(*args: Any, **kwargs: Any) -> str:
            BUDGET.get().text(len(text))
            if name == "format_map":
                return formatter.vformat(text, (), args[0])
            return formatter.vformat(text, args, kwargs)

        return format_text

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        budget = BUDGET.get()
        budget.enter_call()
        try:
            owner = getattr(__obj, "__self__", None)
            if isinstance(owner, str):
                named = {name: value for name, value in kwargs.items() if name not in _JINJAS_OWN_ARGUMENTS}
                return budget.built(call_text_method(budget, owner, __obj, args, named))
            if isinstance(owner, list | tuple):  # count and index compare all items
                budget.looked_through(owner)
            if isinstance(__obj, LoopContext) and args:  # a recursive loop goes one level down
                args = (budget.counted(args[0]), *args[1:])
            return budget.built(super().call(__context, __obj, *args, **kwargs))
        finally:
            budget.leave_call()

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        budget = BUDGET.get()
        if operator == "**":
            _check_power(left, right)
        elif operator == "*":
            _check_product(budget, left, right)
        elif operator == "%" and isinstance(left, str):
            return budget.built(percent_format(budget, left, right))
        elif operator == "+" and isinstance(left, str) and isinstance(right, str):
            budget.text(len(left) + len(right))
            return left + right
        return budget.built(super().call_binop(context, operator, left, right))


class QuietNamespace(Namespace):
    """Jinja's namespace, which prints as a word: printing what it holds could go round in circles."""

    def __repr__(self) -> str:
        return "<namespace>"


class GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks the assistant's part for training; here it is its body alone."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _Guarding(NodeTransformer):
    """Puts the guards of `_GUARDS` around whatever could grow or go on without end."""

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        if type(node) in _REFUSED_STATEMENTS:
            word = _REFUSED_STATEMENTS[type(node)]
            raise Refusal(f"uses the statement `{word}` (line {node.lineno}), which a chat template may not")
        return super().generic_visit(node, *args, **kwargs)

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Node:  # noqa: N802
        return nodes.Const(node.data, lineno=node.lineno)  # constants are counted when written, plain data is not

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.iter = _guard(node.iter, "~each")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _guard(nodes.List(node.nodes, lineno=node.lineno), "~concat")

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _guard(node.expr, "~compared")
        for operand in node.ops:
            operand.expr = _guard(operand.expr, "~compared")
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _guard(node, "~built") if isinstance(node.arg, nodes.Slice) else node

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        return _guard(self.generic_visit(node), "~built")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        return _guard(self.generic_visit(node), "~built")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _guard(node, "~built") if node.ctx == "load" else node


def _guard(node: Any, name: str) -> nodes.Expr:
    if isinstance(node, nodes.Const):
        return node
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _paid(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter or test that counts as a step and pays for its result.

    All of them take the context, which also keeps Jinja from calculating them while it compiles.
    """
    wants = getattr(getattr(function, "jinja_pass_arg", None), "name", None)

    @pass_context
    def paid(context: Context, *args: Any, **kwargs: Any) -> Any:
        budget = BUDGET.get()
        budget.step()
        first: dict[str | None, Any] = {
            "context": context,
            "eval_context": context.eval_ctx,
            "environment": context.environment,
        }
        given = (first[wants], *args) if wants else args
        return budget.built(function(*given, **kwargs))

    return paid


def _paid_test(function: Callable[..., Any]) -> Callable[..., Any]:
    """A test, such as `is in`, that pays for everything it may have to look at."""

    @pass_context
    def paid(context: Context, *args: Any) -> Any:
        return function(*(_compared(context, argument) for argument in args))

    return paid


@pass_context
def _written(_: Context, value: Any) -> str:
    """Every piece of output passes here."""
    BUDGET.get().printed(value)
    return str(value)


@pass_context
def _compared(_: Context, value: Any) -> Any:
    BUDGET.get().looked_through(value)
    return value


_GUARDS: Final[dict[str, Callable[..., Any]]] = {
    "~each": pass_context(lambda _, items: BUDGET.get().counted(items)),
    "~built": pass_context(lambda _, value: BUDGET.get().built(value)),
    "~concat": pass_context(lambda _, parts: joined(BUDGET.get(), "", parts)),
    "~compared": _compared,
}


class _CountingFormatter(SandboxedFormatter):
    """`'{} {}'.format(…)`, where fields may not reach out, widths stay small and each piece is paid for."""

    def format_field(self, value: Any, format_spec: str) -> Any:
        check_width(format_spec)
        BUDGET.get().printed(value)
        return Formatter.format_field(self, value, format_spec)


def _check_power(left: Any, right: Any) -> None:
    bits = left.bit_length() if isinstance(left, int) else 64
    if isinstance(right, int) and bits * abs(right) > MOST_INTEGER_BITS:
        refuse_number()


def _check_product(budget: Budget, left: Any, right: Any) -> None:
    for value, times in ((left, right), (right, left)):
        if isinstance(times, int):
            if isinstance(value, str):
                budget.text(len(value) * max(times, 0))
            elif isinstance(value, list | tuple):
                budget.step(len(value) * max(times, 0))


def _range(*args: int) -> range:
    numbers = range(*args)
    try:
        BUDGET.get().step(len(numbers))
    except OverflowError:
        raise Refusal("counts further than any conversation goes") from None
    return numbers


def _raise_exception(message: Any) -> NoReturn:
    raise jinja2.TemplateError(str(message)[:300])


def _strftime_now(form: str) -> str:
    check_width(form)
    BUDGET.get().text(len(form) * 100)  # no directive gives more
    return datetime.datetime.now().strftime(form)
