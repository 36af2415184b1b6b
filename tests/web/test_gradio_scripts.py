"""What the page serves in place of Gradio's scripts is Gradio's own text, but for where it has less to do."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from playwright._impl._driver import compute_driver_executable

from playground.web.gradio_scripts import CHANGES, SCRIPTS, ScriptChange, lighter_scripts

LOOK_UPS = """
const tree = {id: 0, children: [{id: 1}, {id: 2, children: [{id: 3, children: []}, {id: 4}]}, {id: 5, children: null}]};
const other = {id: 0, children: [{id: 3, of: 'another page'}]};
const look = find => [3, 0, 4, 1, 9, 5, 3].map(id => find(tree, id)).concat([3, 4].map(id => find(other, id)));
const late = find => { tree.children[0].children = [{id: 9, is: 'late'}]; return find(tree, 9); };
const both = [GRADIOS, OURS].map(find => [look(find), late(find), (tree.children[0].children = [], 0)]);
console.log(JSON.stringify(both));
"""


def original_of(change: ScriptChange) -> str:
    (text,) = (
        text for file in SCRIPTS.glob(f"{change.file}-*.js") if change.place.search(text := file.read_text("utf-8"))
    )
    return text


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change.file} {change.place.pattern[:20]}")
def test_a_change_has_one_place_in_the_installed_gradio(change: ScriptChange) -> None:
    assert len(change.place.findall(original_of(change))) == 1


def test_with_the_changes_taken_back_the_scripts_are_gradios() -> None:

    differences = {
        "Blocks": [
            (r"(complete`\)\{)\w+\.connection_type===`stream`&&\((\w+=`closed`)\)", r"\1\2"),
            (r"(\w\(\))&&(\w+\(\(\)=>\{\w+\.reload\()", r"\1,\2"),
        ],
        "Index": [(r"(\.get_url_config\(\))\)", r"\1,!0)")],
        "statustracker": [(r"\w+\?\.isConnected&&", "")],
    }
    scripts = lighter_scripts()
    assert sorted(name.split("-")[0] for name in scripts) == sorted([*differences, "core"])
    for name, text in scripts.items():
        file = SCRIPTS / name
        for ours, gradios in differences.get(file.name.split("-")[0], []):
            text = re.sub(ours, gradios, text)
        if not file.name.startswith("core"):  # what it looks up is compared below
            assert text == file.read_text("utf-8")


def test_a_part_of_the_page_is_found_as_gradio_finds_it() -> None:
    (change,) = (change for change in CHANGES if change.file == "core")
    place = change.place.search(original_of(change))
    assert place
    program = LOOK_UPS.replace("GRADIOS", f"({place[0]})").replace("OURS", f"({place.expand(change.becomes)})")
    node = compute_driver_executable()[0]
    done = subprocess.run([node, "-e", program], capture_output=True, text=True, check=True, timeout=60)
    gradios, ours = json.loads(done.stdout)
    assert ours == gradios
    assert gradios[0][-2:] == [{"id": 3, "of": "another page"}, None] and gradios[1]["is"] == "late"
