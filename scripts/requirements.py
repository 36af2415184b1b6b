"""Writes requirements.txt, which a Hugging Face Space reads, from pyproject.toml, which it does not read.

`make fix` runs it; a test fails where the two differ.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

from scripts.llama_wheel import INDEX

PROJECT: Final = Path(__file__).resolve().parent.parent
EXTRAS: Final = ("starter", "mcp")  # what a Space has beside the dependencies
BY_THE_SPACE: Final = "gradio>"  # installed by the Space itself, as `sdk_version` in README.md says
HEAD: Final = f"""\
# For a Hugging Face Space, written by scripts/requirements.py from pyproject.toml. Gradio is not named: the Space
# installs the version that README.md names, and `spaces` where there is ZeroGPU. llama.cpp comes prebuilt: building it
# takes longer than a Space may take to start. The address is that of the wheels of llama-cpp-python's own project.
--extra-index-url {INDEX}/cpu
--only-binary llama-cpp-python

"""


def requirements(pyproject: str) -> str:
    """The text of requirements.txt."""
    project = tomllib.loads(pyproject)["project"]
    lines = [*project["dependencies"], *(line for extra in EXTRAS for line in project["optional-dependencies"][extra])]
    own = [line for line in lines if not line.startswith(BY_THE_SPACE)]
    return HEAD + "\n".join(own) + "\n"


if __name__ == "__main__":
    (PROJECT / "requirements.txt").write_text(requirements((PROJECT / "pyproject.toml").read_text()))
