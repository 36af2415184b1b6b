"""The stylesheets: what looks alike has one rule, so that a part of one tab does not change the look of another."""

from __future__ import annotations

import re
from collections import Counter

from playground.resources import asset
from playground.web.theme import launch_look

ONE_CLASS = re.compile(r"^(\.gp-[\w-]+) \{", re.MULTILINE)  # at the margin: what stands in @media is indented


def test_each_class_gets_its_look_in_one_place() -> None:
    found: Counter[str] = Counter()
    for path in launch_look()["css_paths"]:
        found.update(ONE_CLASS.findall(asset(path.name).read_text(encoding="utf-8")))
    assert found[".gp-card"] == 1 and len(found) > 200
    assert [name for name, times in found.items() if times > 1] == []
