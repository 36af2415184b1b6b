"""Reads the Dockerfile: its stages, and what their steps say."""

from __future__ import annotations

import json
import re
import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path

from tests.support.playground_process import ROOT

Step = tuple[str, str]  # instruction, the rest


def steps() -> list[Step]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line]


def stages() -> dict[str, list[Step]]:
    """The steps of each stage by its name; "" is the last one, which is the image."""
    found: dict[str, list[Step]] = {}
    for word, rest in steps():
        if word == "FROM":
            found[rest.partition(" AS ")[2]] = []
        if found:
            found[list(found)[-1]].append((word, rest))
    return found


def copied(stage: list[Step]) -> list[tuple[list[str], str]]:
    """(sources, target) of what comes from this folder."""
    rests = [rest.split() for word, rest in stage if word == "COPY" and not rest.startswith("--from")]
    return [(rest[:-1], rest[-1]) for rest in rests]


def variables(stage: list[Step]) -> dict[str, str]:
    pairs = [pair for word, rest in stage if word == "ENV" for pair in rest.split()]
    return dict(pair.split("=", 1) for pair in pairs)


def only(word: str, stage: list[Step]) -> str:
    (rest,) = [rest for one, rest in stage if one == word]
    return rest


def ignored(name: str) -> bool:
    """As .dockerignore says; the last line that matches decides."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().split():
        pattern = line.removeprefix("!").removeprefix("**/")
        if any(fnmatch(part, pattern) for part in (name, *Path(name).parts)):
            verdict = not line.startswith("!")
    return verdict


def copy_into(tree: Path, stage: list[Step]) -> None:
    """What the stage copies from the project."""
    for sources, target in copied(stage):
        for source in sources:
            place = tree / target
            if (ROOT / source).is_dir():
                ignore = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / source, place, ignore=ignore, dirs_exist_ok=True)
            else:
                if target.endswith("/") and target != "./":
                    place.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, place)


def health_check(stage: list[Step], port: int, python: str = sys.executable) -> list[str]:
    """Its command, by another Python, for a page on another port."""
    _, _, command = only("HEALTHCHECK", stage).partition("CMD ")
    own, *rest = json.loads(command)
    assert own == ".venv/bin/python"
    return [python, *(part.replace("7860", str(port)) for part in rest)]
