"""Finds a prebuilt llama-cpp-python in the index of the bindings' own project and downloads it.

The index is a page of links for each backend (PEP 503), written by hand after a release: a version may be missing for
one of them. `find_wheel` chooses the link for this Python, system and C library; `download` checks what it gets. Each
fault is a NoWheel with its reason, so that llama.cpp is built from source instead.
"""

from __future__ import annotations

import hashlib
import http.client
import platform
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

INDEX = "https://abetlen.github.io/llama-cpp-python/whl"
ANSWER_SECONDS = 5.0  # for the whole page of links
LARGEST_PAGE = 8 << 20  # bytes
# A download that brings less than this within the time has stopped.
LEAST_BYTES, LEAST_SECONDS = 256 << 10, 30.0
CHUNK = 1 << 16
# llama.cpp's defaults for x86-64 if it is not built for one processor: all of them come with AVX2.
PROCESSOR_FLAGS = ("avx2", "bmi2", "fma", "f16c")


class NoWheel(Exception):
    """Why there is no prebuilt wheel, as part of a sentence."""


class IndexUnreachable(NoWheel):
    """The index did not answer; asking it for another backend would wait as long again."""


@dataclass(frozen=True)
class Wheel:
    url: str
    name: str
    sha256: str | None  # None: the index does not say


def find_wheel(index: str, folder: str, version: str, tags: list[str], seconds: float = ANSWER_SECONDS) -> Wheel:
    """The wheel of exactly this version that suits best; raises NoWheel.

    index: the address of the index; folder: its part for a backend, such as "cpu"; tags: the compatibility tags of the
    Python to install into, best first, as `cp312-cp312-manylinux_2_28_x86_64`.
    """
    check_processor()
    page = f"{index.rstrip('/')}/{folder}/llama-cpp-python/"
    links = list(_wheels(_read_page(page, seconds), page))
    if not links:
        raise NoWheel("the index of prebuilt wheels answered with a page without wheels, such as that of a login")
    right = [wheel for wheel in links if _version(wheel.name) == version]
    if not right:
        raise NoWheel(f"the index of prebuilt wheels has no {version} for {folder}")
    ranks = {tag: rank for rank, tag in enumerate(tags)}
    suited = [(min(ranks[tag] for tag in _tags(wheel.name) & ranks.keys()), wheel) for wheel in right
              if _tags(wheel.name) & ranks.keys() and _has_its_c_library(wheel.name)]  # fmt: skip
    if not suited:
        raise NoWheel(f"no prebuilt wheel of {version} for {folder} is for this system ({tags[0]})")
    return min(suited, key=lambda ranked: ranked[0])[1]


def download(wheel: Wheel, target: Path) -> Path:
    """Writes the wheel into the folder; raises NoWheel if it does not arrive whole."""
    target.mkdir(parents=True, exist_ok=True)
    path, digest = target / wheel.name, hashlib.sha256()
    try:
        with urllib.request.urlopen(wheel.url, timeout=LEAST_SECONDS) as answer, path.open("wb") as file:
            expected = answer.headers.get("Content-Length")
            for chunk in _arriving(answer):
                digest.update(chunk)
                file.write(chunk)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoWheel(f"the prebuilt wheel could not be downloaded ({_short(error)})") from error
    if expected and path.stat().st_size != int(expected):
        raise NoWheel("the download of the prebuilt wheel broke off")
    if not zipfile.is_zipfile(path):
        raise NoWheel("in place of the prebuilt wheel came something else, such as the page of a login")
    if wheel.sha256 not in (None, digest.hexdigest()):
        raise NoWheel("the prebuilt wheel is not the file that the index describes")
    return path


def check_processor() -> None:
    """Raises NoWheel where the processor lacks what the prebuilt wheels use."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:
        return
    flags = set(next((line for line in described.splitlines() if line.startswith("flags")), "").split())
    missing = [flag for flag in PROCESSOR_FLAGS if flags and flag not in flags]
    if missing:
        raise NoWheel(f"this processor has no {missing[0].upper()}, which the prebuilt wheels use")


def compatibility_tags(python: Path) -> list[str]:
    """The tags of wheels that this Python can install, best first, as its pip knows them."""
    ask = "from pip._vendor.packaging.tags import sys_tags; print(*sys_tags())"
    done = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False)
    return done.stdout.split()


def _read_page(page: str, seconds: float) -> str:
    """A page that arrives within the time, however slowly its pieces come; raises NoWheel."""
    end, received = time.monotonic() + seconds, bytearray()
    try:
        with urllib.request.urlopen(page, timeout=seconds) as answer:
            while chunk := answer.read1(CHUNK):
                received += chunk
                if time.monotonic() > end:
                    raise TimeoutError
                if len(received) > LARGEST_PAGE:
                    raise NoWheel("the index of prebuilt wheels answered with far more than a list of wheels")
    except urllib.error.HTTPError as error:
        raise NoWheel(f"the index of prebuilt wheels answered {error.code}") from error
    except TimeoutError as error:
        raise IndexUnreachable(f"the index of prebuilt wheels did not answer within {seconds:g} s") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(getattr(error, "reason", None), TimeoutError):
            raise IndexUnreachable(f"the index of prebuilt wheels did not answer within {seconds:g} s") from error
        raise IndexUnreachable(f"the index of prebuilt wheels cannot be reached ({_short(error)})") from error
    return received.decode(errors="replace")


def _arriving(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """The chunks of a download; raises TimeoutError when it all but stops."""
    since, fresh = time.monotonic(), 0
    while chunk := answer.read1(CHUNK):
        fresh += len(chunk)
        if fresh >= LEAST_BYTES:
            since, fresh = time.monotonic(), 0
        elif time.monotonic() - since > LEAST_SECONDS:
            raise TimeoutError("it all but stopped")
        yield chunk


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _wheels(text: str, page: str) -> Iterator[Wheel]:
    parser = _Links()
    parser.feed(text)
    for address in parser.addresses:
        try:
            url, fragment = urldefrag(urljoin(page, address))
            name = unquote(urlsplit(url).path.rsplit("/", 1)[-1])
        except ValueError:  # not an address
            continue
        if re.fullmatch(r"llama_cpp_python-[\w.+!]+(-\d\w*)?(-[\w.]+){3}\.whl", name):
            yield Wheel(url, name, fragment[7:] if fragment.startswith("sha256=") else None)


def _version(name: str) -> str:
    """Without the local part that some builds add: `0.3.36+cu124` is 0.3.36."""
    return name.split("-")[1].split("+")[0]


def _tags(name: str) -> set[str]:
    """The tags of a wheel's name: `py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64` are two."""
    pythons, abis, platforms = (part.split(".") for part in name[: -len(".whl")].split("-")[-3:])
    return {f"{one}-{abi}-{system}" for one in pythons for abi in abis for system in platforms}


def _has_its_c_library(name: str) -> bool:
    """Whether a wheel with the plain tag `linux_…` can be right: it needs glibc, and that tag does not say so."""
    is_plain = any(part.startswith("linux_") for part in name[: -len(".whl")].split("-")[-1].split("."))
    return not is_plain or platform.libc_ver()[0] == "glibc"


def _short(error: Exception) -> str:
    said = str(error) if isinstance(error, urllib.error.HTTPError) else str(getattr(error, "reason", error))
    return " ".join(said.split())[:120] or type(error).__name__
