"""Runs what the Dockerfile does, step by step, in clean roots, where there is no Docker: `make docker-check`.

Needs root, debootstrap and, for a base as `python:3.12-slim` has it, a Python under one folder (--python; else Debian's
own python3 serves). Each RUN is run in its root by chroot, each COPY copies what .dockerignore lets through, and the
image's command is started as its user, watched by its own health check, and asked a question. So a missing package or
file is found. With --build-arg BACKEND=cuda the steps of the image for CUDA are run on Debian in place of NVIDIA's
Ubuntu: its packages and its llama.cpp are installed, and the processor answers the question.

  sudo python scripts/docker_check.py [--python FOLDER] [--build-arg BUILD=source] [--wheel-index ADDRESS] [--keep]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
SUITE = "bookworm"
# What python:slim has beside Debian's smallest system: the libraries of its Python, and certificates.
OF_PYTHON_SLIM = (
    "ca-certificates", "netbase", "tzdata", "libbz2-1.0", "libexpat1", "libffi8", "liblzma5", "libncursesw6",
    "libreadline8", "libsqlite3-0", "libssl3", "libuuid1", "zlib1g",
)  # fmt: skip
# How this computer reaches the package registries, which an image is built with as well.
REGISTRIES = (
    "etc/resolv.conf", "etc/hosts", "etc/pip.conf", "etc/ssl/certs/ca-certificates.crt", "etc/apt/sources.list",
    "etc/apt/sources.list.d", "etc/apt/apt.conf.d",
)  # fmt: skip
REGISTRY_VARIABLE = re.compile(r"(?i)^(PIP_(CERT|INDEX_URL|TRUSTED_HOST|DEFAULT_TIMEOUT)|https?_proxy|no_proxy)$")
PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
START_SECONDS = 120

Step = tuple[str, str]  # instruction, the rest


class Image:
    """A root folder with what the steps so far have set."""

    def __init__(self, root: Path, arguments: dict[str, str]) -> None:
        self.root = root
        self.arguments = arguments
        self.variables: dict[str, str] = {}
        self.folder = "/"
        self.user, self.home = "0:0", "/root"
        self.command: list[str] = []
        self.health: list[str] = []

    def start(
        self, command: list[str], more: dict[str, str] | None = None, *, quiet: bool = False
    ) -> subprocess.Popen[bytes]:
        passed = {name: value for name, value in os.environ.items() if REGISTRY_VARIABLE.match(name)}
        environment = {"PATH": PATH, "HOME": self.home, **passed, **self.variables, **(more or {})}
        inside = ["sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", self.folder, *command]
        whole = ["chroot", f"--userspec={self.user}", str(self.root), *inside]
        errors = subprocess.DEVNULL if quiet else None
        return subprocess.Popen(whole, env=environment, start_new_session=True, stderr=errors)

    def run(self, command: list[str], more: dict[str, str] | None = None, *, quiet: bool = False) -> int:
        running = self.start(command, more, quiet=quiet)
        try:
            return running.wait()
        except BaseException:  # Ctrl-C, or SIGTERM: nothing may go on in a root that is unmounted
            os.killpg(running.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                running.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            raise


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, help="the folder of a Python 3.12 that becomes /usr/local")
    parser.add_argument("--base", type=Path, help="a root that debootstrap has made, in place of a new one")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--wheel-index", default="", help="where prebuilt wheels of llama.cpp are looked for")
    parser.add_argument("--keep", action="store_true", help="leave the roots there")
    asked = parser.parse_args(arguments)
    if os.geteuid() != 0 or (asked.base is None and not shutil.which("debootstrap")):
        print("==> This needs root, and the program debootstrap.")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the roots are unmounted
    given = dict(pair.split("=", 1) for pair in asked.build_arg)
    folder = Path(tempfile.mkdtemp(prefix="docker-check-"))
    try:
        base = asked.base or made_base(folder / "base")
        image = built(
            folder, base, asked.python, given, {"WHEEL_INDEX": asked.wheel_index} if asked.wheel_index else {}
        )
        return answers(image)
    finally:
        if not asked.keep:
            # Never across the border of a file system, should one still be mounted.
            subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=False)


def made_base(root: Path) -> Path:
    packages = ",".join(OF_PYTHON_SLIM)
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={packages}", SUITE, str(root)], check=True, stdout=sys.stderr
    )
    return root


# --- the steps ---


def stages() -> tuple[dict[str, str], dict[str, list[Step]]]:
    """The arguments before the first stage, and the steps of each by its name; "" is the last one, the image."""
    text = re.sub(r"^#.*\n", "", (PROJECT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    arguments: dict[str, str] = {}
    found: dict[str, list[Step]] = {}
    for word, rest in ((line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines if line):
        if word == "FROM":
            found[rest.partition(" AS ")[2]] = []
        elif not found:
            name, _, value = rest.partition("=")
            arguments[name] = value
            continue
        found[list(found)[-1]].append((word, rest))
    return arguments, found


def built(folder: Path, base: Path, python: Path | None, given: dict[str, str], more: dict[str, str]) -> Image:
    """The image, by the steps of the stages that it is made of."""
    arguments, steps = stages()
    arguments |= given
    images: dict[str, Image] = {}

    def image_of(stage: str) -> Image:
        if stage in images:
            return images[stage]
        wanted = filled(steps[stage][0][1].partition(" AS ")[0], arguments)
        source = image_of(wanted) if wanted in steps else None
        image = Image(folder / (stage or "image"), dict(given))
        image.variables |= source.variables if source else {}
        copy_root(source.root if source else base, image.root)
        if source is None:
            prepare(image, wanted, python, arguments)
        with mounted(image.root):
            for word, rest in steps[stage][1:]:
                print(f"==> [{stage or 'image'}] {word} {rest}", flush=True)
                take_step(image, word, rest, image_of, more)
        images[stage] = image
        return image

    return image_of("")


def take_step(image: Image, word: str, rest: str, image_of: object, more: dict[str, str]) -> None:
    rest = filled(rest, {**image.arguments, **image.variables}) if word in ("ENV", "COPY", "WORKDIR") else rest
    if word == "ARG":
        name, _, value = rest.partition("=")
        image.arguments.setdefault(name, value.strip('"') or stages()[0].get(name, ""))
    elif word == "ENV":
        image.variables |= {pair.split("=", 1)[0]: pair.split("=", 1)[1] for pair in rest.split()}
    elif word == "WORKDIR":
        image.folder = rest
        inside(image, "").mkdir(parents=True, exist_ok=True)
    elif word == "USER":
        people = (image.root / "etc/passwd").read_text()
        ((user, group, image.home),) = re.findall(rf"^{rest}:[^:]*:(\d+):(\d+):[^:]*:([^:]*):", people, re.MULTILINE)
        image.user = f"{user}:{group}"
    elif word == "COPY":
        copy(image, rest.split(), image_of)
    elif word == "RUN":
        code = image.run(["sh", "-c", rest], {**more, "DEBIAN_FRONTEND": "noninteractive"})
        if code:
            sys.exit(f"==> This step failed with {code}: {rest}")
    elif word == "CMD":
        image.command = json.loads(rest)
    elif word == "HEALTHCHECK":
        image.health = json.loads(rest.partition("CMD ")[2])
    elif word not in ("VOLUME", "EXPOSE"):
        sys.exit(f"==> This check does not know {word}.")


def filled(text: str, values: dict[str, str]) -> str:
    """`${NAME}` by its value."""
    return re.sub(r"\$\{(\w+)\}", lambda found: values.get(found[1], ""), text)


def inside(image: Image, path: str) -> Path:
    return image.root / os.path.normpath(os.path.join(image.folder, path)).lstrip("/")


def copy(image: Image, words: list[str], image_of: object) -> None:
    *sources, target = words
    origin = PROJECT
    if sources[0].startswith("--from="):
        assert callable(image_of)
        origin = image_of(sources.pop(0).removeprefix("--from=")).root
    for source in sources:
        path = origin / source.lstrip("/")
        place = inside(image, target)
        if path.is_dir():
            ignore = None if origin != PROJECT else (lambda folder, names: {name for name in names if ignored(name)})
            shutil.copytree(path, place, symlinks=True, ignore=ignore, dirs_exist_ok=True)
        else:
            place = place / path.name if target.endswith("/") else place
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)


def ignored(name: str) -> bool:
    """As .dockerignore says of a part of a path; the last line that matches decides."""
    verdict = False
    for line in (PROJECT / ".dockerignore").read_text().split():
        if fnmatch(name, line.removeprefix("!").removeprefix("**/")):
            verdict = not line.startswith("!")
    return verdict


# --- the roots ---


def copy_root(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(target)], check=True)


def prepare(image: Image, name: str, python: Path | None, arguments: dict[str, str]) -> None:
    """The base image: what its name promises, and the registries as this computer reaches them.

    `python:…` has Python in /usr/local. `nvidia/cuda:…` has none, and names its version in a variable.
    """
    for place in REGISTRIES:
        source, target = Path("/") / place, image.root / place
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    if name.startswith("nvidia/cuda:"):
        image.variables["CUDA_VERSION"] = arguments["CUDA"]
        return
    if python:
        subprocess.run(["cp", "-a", f"{python.resolve()}/.", str(image.root / "usr/local")], check=True)
        with mounted(image.root):
            assert image.run(["ldconfig"]) == 0
            assert image.run(["python3", "-c", "import ssl, sqlite3, ctypes, lzma, bz2, venv, ensurepip"]) == 0
        return
    with mounted(image.root):
        install = "apt-get update -q && apt-get install -y -q --no-install-recommends python3 python3-venv"
        assert image.run(["sh", "-c", install], {"DEBIAN_FRONTEND": "noninteractive"}) == 0


@contextmanager
def mounted(root: Path) -> Iterator[None]:
    """/proc and /dev, as a container has them."""
    mounts = [("/proc", root / "proc"), ("/dev", root / "dev")]
    for source, target in mounts:
        subprocess.run(["mount", "--bind", source, str(target)], check=True)
    try:
        yield
    finally:
        for _, target in reversed(mounts):
            subprocess.run(["umount", "--lazy", str(target)], check=True)


# --- the image as it runs ---


def answers(image: Image) -> int:
    """0 if the health check succeeds and the starter model answers a question."""
    print(f"==> CMD {image.command}", flush=True)
    with mounted(image.root):
        running = image.start(image.command)
        try:
            until = time.monotonic() + START_SECONDS
            while image.run(image.health, quiet=True) != 0:
                if running.poll() is not None or time.monotonic() > until:
                    print("==> The page did not become healthy.")
                    return 1
                time.sleep(2)
            print("==> HEALTHCHECK succeeds.", flush=True)
            return ask()
        finally:
            running.terminate()
            print(f"==> SIGTERM ends it with {running.wait(30)}.", flush=True)


def ask() -> int:
    """Over HTTP, as any program does."""
    address = "http://127.0.0.1:7860/gradio_api/call/v2/chat"
    body = json.dumps({"prompt": "What is 2+2?", "model": "starter", "max_tokens": 16, "temperature": 0}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"http://127.0.0.1:7860/gradio_api/call/chat/{event}", timeout=120) as stream:
        last = stream.read().decode().strip().splitlines()[-1]
    print(f"==> The starter answers: {last[:300]}", flush=True)
    return 0 if '"finish_reason"' in last else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
