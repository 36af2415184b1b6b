"""Every library of the system that the packages in the image want is installed there by the Dockerfile.

The packages are those that are installed here, by their own metadata from the requirements of the Dockerfile's step.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, files, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.set_up import NEEDS_LLAMA_CPP, read_packages
from tests.support.shared_libraries import needed_libraries
from tests.test_docker import only, stages

# Of the base image: glibc's own, and what python:slim has beside it (scripts/docker_check.py).
OF_THE_BASE = (
    "libc", "libm", "libdl", "libpthread", "librt", "libutil", "libresolv", "ld-linux-x86-64", "ld-linux-aarch64",
    "libz", "libexpat", "libffi", "liblzma", "libbz2", "libssl", "libcrypto", "libsqlite3", "libuuid",
)  # fmt: skip
PACKAGE_OF = {"libgomp": "libgomp1", "libstdc++": "libstdc++6", "libgcc_s": "libstdc++6"}  # which brings libgcc-s1


def installed_distributions(requirements: list[str]) -> set[str]:
    """What pip would install for these."""
    found: set[tuple[str, str]] = set()
    waiting = [("", Requirement(text)) for text in requirements]
    while waiting:
        extra, one = waiting.pop()
        if one.marker is not None and not one.marker.evaluate({"extra": extra}):
            continue
        for inner in ("", *one.extras):
            key = (canonicalize_name(one.name), inner)
            if key not in found:
                found.add(key)
                own = [] if one.name == NEEDS_LLAMA_CPP else requires(one.name) or []
                waiting += [(inner, Requirement(text)) for text in own]
    return {name for name, _ in found}


@pytest.mark.skipif(sys.platform != "linux", reason="the image is one of Linux")
@pytest.mark.parametrize("stage", ["run-cpu", "run-cuda"])
def test_every_library_of_the_system_that_a_package_wants_is_in_the_image(stage: str) -> None:
    (_, *extras) = only("RUN", stages()["build"]).split()[1:]
    packages = read_packages()
    try:
        names = installed_distributions([one for extra in ("", *extras) for one in packages[extra]])
    except PackageNotFoundError as missing:
        pytest.skip(f"{missing} is not installed here")
    libraries = [
        Path(str(file.locate())) for name in names for file in files(name) or () if ".so" in Path(file).name
    ]  # fmt: skip
    brought = {path.name.split(".")[0] for path in libraries}
    system = only("RUN", stages()[stage])
    missing_ones = {
        f"{path.name} wants {name}"
        for path in libraries
        if path.is_file()
        for name in needed_libraries(path)
        if (stem := name.split(".")[0]) not in brought
        and stem not in OF_THE_BASE
        and not (stem in PACKAGE_OF and f" {PACKAGE_OF[stem]} " in system)
    }
    assert libraries and not missing_ones
