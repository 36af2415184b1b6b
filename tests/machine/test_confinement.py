"""What the children that read model files are left with: looked at from outside, in the real processes."""

from __future__ import annotations

import dataclasses
import os
import resource
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from playground.chat.template.renderer import MOST_BYTES
from playground.chat.template.renderer_process import TemplateRenderer
from playground.engine.local.client import loaded_engine
from playground.fit.planner import Planner
from playground.llama.params import ContextParameters
from playground.machine.confinement import MOST_OPEN_FILES, SPARE_BYTES, child_environment
from playground.machine.memory import read_memory
from playground.quantize.quantizer_process import QuantizerProcess

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows a process's limits in a file")
MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Seen:
    """What /proc says of a process."""

    status: dict[str, str]
    limits: dict[str, str]
    environment: str

    @classmethod
    def of(cls, pid: int) -> Seen:
        folder = Path("/proc", str(pid))
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        lines = (folder / "limits").read_text().splitlines()[1:]
        limits = {line[:26].strip(): line[26:47].strip() for line in lines}
        return cls({name: value.strip() for name, value in status.items()}, limits, (folder / "environ").read_text())


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> str:
    secret = "hf_AccessTokenThatNobodyMaySee"
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "PLAYGROUND_REMOTE_KEY_SHOP", "PLAYGROUND_PASSWORD",
                 "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY"):  # fmt: skip
        monkeypatch.setenv(name, secret)
    return secret


def check(seen: Seen, secret: str) -> None:
    assert secret not in seen.environment
    assert seen.status["NoNewPrivs"] == "1"
    assert seen.limits["Max core file size"] == "0"
    assert int(seen.limits["Max open files"]) <= MOST_OPEN_FILES
    least = read_memory().total
    assert least <= int(seen.limits["Max data size"]) <= least + psutil.swap_memory().total + SPARE_BYTES
    score = Path("/proc", seen.status["Pid"], "oom_score_adj").read_text()
    assert int(score) > int(Path("/proc/self/oom_score_adj").read_text())


def newest_child() -> psutil.Process:
    """The process that this one started last; other tests' models may still be there."""
    return max(psutil.Process().children(), key=lambda child: child.create_time())


@linux_only
def test_the_process_that_plans_has_no_secrets_no_new_rights_and_bounded_memory(starter: Path, secrets: str) -> None:
    with Planner() as planner:
        planner.plan(starter, ContextParameters(512))
        child = newest_child()
        check(Seen.of(child.pid), secrets)


@linux_only
def test_the_process_of_a_model_has_no_secrets_no_new_rights_and_bounded_memory(starter: Path, secrets: str) -> None:
    with loaded_engine(starter, ContextParameters(512), 1):
        child = newest_child()
        seen = Seen.of(child.pid)
        check(seen, secrets)
        kept = int(seen.status["VmData"].removesuffix("kB")) * 1024
        assert kept < int(seen.limits["Max data size"]) / 2  # what the limit counts is near what the model needs


@linux_only
def test_the_process_that_quantizes_has_no_secrets_no_new_rights_and_bounded_memory(
    starter: Path, secrets: str, tmp_path: Path
) -> None:
    with QuantizerProcess() as process:
        child = newest_child()
        process.send_order(
            {
                "order": "plan",
                "source": str(starter),
                "file_type": 2,
                "shards": [str(starter)],
                "notes": {},
                "keep_mxfp4": [],
                "weighed": False,
            }
        )
        assert process.read_answer(60) is not None
        check(Seen.of(child.pid), secrets)


@linux_only
def test_the_process_of_templates_can_open_nothing_and_start_nothing(secrets: str) -> None:
    with TemplateRenderer() as renderer:
        assert renderer.render("fine", {}, 0) == "fine"
        child = newest_child()
        seen = Seen.of(child.pid)
        assert secrets not in seen.environment and seen.status["NoNewPrivs"] == "1"
        assert seen.limits["Max open files"] == seen.limits["Max file size"] == seen.limits["Max processes"] == "0"
        assert int(seen.limits["Max data size"]) == MOST_BYTES
        assert int(seen.status["VmData"].removesuffix("kB")) * 1024 < MOST_BYTES / 8  # the rest is for templates
        libraries = Path("/proc", str(child.pid), "maps").read_text()
        assert "numpy" not in libraries and "llama" not in libraries and "_ssl" not in libraries


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], env=child_environment(), capture_output=True, text=True, timeout=60
    )


@linux_only
def test_memory_beyond_the_limit_is_refused_and_a_mapped_file_does_not_count(tmp_path: Path) -> None:
    large = tmp_path / "weights"
    with large.open("wb") as file:
        file.truncate(8 << 30)  # sparse: it takes no room
    program = (
        "import mmap, sys\n"
        "from playground.machine.confinement import confine_this_process\n"
        f"confine_this_process({256 * MIB})\n"
        f"weights = open({str(large)!r}, 'rb')\n"
        "view = mmap.mmap(weights.fileno(), 0, access=mmap.ACCESS_READ)\n"
        "print(len(view), view[-1])\n"
        "try:\n"
        "    bytearray(2 << 30)\n"
        "except MemoryError:\n"
        "    print('refused')\n"
    )
    assert run(program).stdout.split() == [str(8 << 30), "0", "refused"]


@linux_only
def test_a_process_with_a_gpus_driver_has_no_limit_that_the_driver_cannot_bear() -> None:
    program = (
        "import resource\n"
        "from playground.machine.confinement import confine_this_process\n"
        "confine_this_process(for_driver=True)\n"
        "print(resource.getrlimit(resource.RLIMIT_DATA)[0], resource.getrlimit(resource.RLIMIT_CORE)[0],\n"
        "      open('/proc/self/status').read().split('NoNewPrivs:')[1].split()[0])\n"
    )
    own = resource.getrlimit(resource.RLIMIT_DATA)[0]
    assert run(program).stdout.split() == [str(own), "0", "0"]


def test_a_process_that_is_confined_twice_or_where_limits_are_lower_already_goes_on() -> None:
    program = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "from playground.machine.confinement import confine_this_process\n"
        "confine_this_process(); confine_this_process()\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    assert run(program).stdout.strip() == "(64, 64)"


def test_what_a_child_needs_of_the_environment_stays() -> None:
    kept = child_environment({"PATH": "/bin", "LD_LIBRARY_PATH": "/lib", "OMP_NUM_THREADS": "2", "HF_TOKEN": "x",
                              "PYTHONPATH": "/more"})  # fmt: skip
    assert kept["PATH"] == "/bin" and kept["LD_LIBRARY_PATH"] == "/lib" and kept["OMP_NUM_THREADS"] == "2"
    assert kept["PYTHONPATH"].endswith(f"{os.pathsep}/more") and "HF_TOKEN" not in kept
