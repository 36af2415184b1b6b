"""Tool calls are judged as the Berkeley Function Calling Leaderboard judges them.

scripts/set_up.py installs its package, bfcl-eval, without what it needs besides, which is for other things.
"""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from playground.measure.abilities.suites import suite_tasks
from playground.measure.abilities.tool_calls import ReadCall, problem_of
from playground.measure.abilities.tools import TOOLS

MODEL = "any"


@pytest.fixture(scope="module")
def published() -> Iterator[Any]:
    models = SimpleNamespace(MODEL_CONFIG_MAPPING={MODEL: SimpleNamespace(underscore_to_dot=False)})
    with patch.dict(sys.modules, {"bfcl_eval.constants.model_config": models}):
        yield importlib.import_module("bfcl_eval.eval_checker.ast_eval.ast_checker")


def is_right_by_bfcl(published: Any, call: ReadCall, task: dict[str, Any]) -> bool:
    function = copy.deepcopy(next(tool["function"] for tool in TOOLS if tool["function"]["name"] == task["tool"]))
    for schema in function["parameters"]["properties"].values():
        schema["type"] = {"number": "float"}.get(schema["type"], schema["type"])  # its name for the type
    answer = {task["tool"]: {name: [value] for name, value in task["arguments"].items()}}
    language = sys.modules["bfcl_eval.constants.enums"].Language.PYTHON
    output = {call.name: dict(call.arguments)}
    return bool(published.simple_function_checker(function, output, answer, language, MODEL)["valid"])


def test_calls_are_right_and_wrong_for_both(published: Any) -> None:
    compared = 0
    for task in suite_tasks("tools"):
        if not task["tool"]:
            continue
        right = task["arguments"]
        first = next(iter(right))
        without = {name: value for name, value in right.items() if name != first}
        variants = [
            ReadCall(task["tool"], right),
            ReadCall("another", right),
            ReadCall(task["tool"], without),
            ReadCall(task["tool"], {**right, "more": 1}),
            ReadCall(task["tool"], {**right, first: True}),
            ReadCall(task["tool"], {**right, first: 17 if isinstance(right[first], float | int) else "1 + 0"}),
        ]
        for call in variants:
            assert (problem_of(call, task) == "") == is_right_by_bfcl(published, call, dict(task)), (call, task)
            compared += 1
    assert compared == 35 * 6
