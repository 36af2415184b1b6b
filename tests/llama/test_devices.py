"""The devices of this build, of drivers that misbehave, and of computers as people published them.

The published figures are facts from public issues, whose numbers stand beside them, reduced to what is read here.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from playground.llama.devices import _HIDING, Device, DeviceReader, Devices, device_backends, read_answer, read_devices
from playground.machine.memory import read_memory
from tests import support

MIB = 1 << 20
IN_CHILDREN = Path(support.__file__).parent / "in_children"


def driver_row(
    name: str, description: str, backend: str, total_mib: int, free_mib: int, kind: str = "GPU", **more: Any
) -> dict[str, Any]:
    sizes = {"memory_total": total_mib * MIB, "memory_free": free_mib * MIB}
    row = {"name": name, "description": description, "backend": backend, "kind": kind, **sizes}
    return {**row, "unified": kind != "GPU", "hardware_id": "", **more}


CPU = driver_row("CPU", "Some CPU", "CPU", 32_000, 32_000, "CPU")
PUBLISHED = {  # issue or pull request -> devices
    "ollama 16508": [
        driver_row("CUDA0", "NVIDIA GeForce RTX 3080 Ti", "CUDA", 11_909, 11_650),
        driver_row("CUDA1", "NVIDIA RTX PRO 4000 Blackwell SFF Edition", "CUDA", 24_026, 23_795),
    ],
    "llama.cpp 16659": [driver_row("Vulkan0", "NVIDIA GeForce RTX 2060", "Vulkan", 6144, 5136)],
    "llama.cpp 21801": [
        driver_row("ROCm0", "Radeon 8060S Graphics", "ROCm", 126_976, 126_464, "integrated GPU"),
    ],
    "llama.cpp 22673": [driver_row("MTL0", "Apple M1 Max", "MTL", 53_084, 53_084, unified=True)],
}


def answered(*rows: dict[str, Any]) -> tuple[list[Device], str]:
    return read_answer(json.dumps([*rows, CPU]).encode())


@pytest.fixture
def broken_driver(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Sets up child processes for TEST_DRIVER; what a failure hides from later children is forgotten at the end."""
    for name in _HIDING:
        monkeypatch.setenv(name, "restored at the end")
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(IN_CHILDREN), os.environ.get("PYTHONPATH")))))
    return monkeypatch


# --- published computers ---


@pytest.mark.parametrize("computer", PUBLISHED)
def test_every_gpu_of_a_published_computer_is_read_with_its_memory(computer: str) -> None:
    rows = PUBLISHED[computer]
    devices, problem = answered(*rows)
    assert problem == ""
    found = [(device.name, device.memory_total, device.memory_free) for device in Devices(tuple(devices)).gpus]
    assert found == [(row["name"], row["memory_total"], row["memory_free"]) for row in rows]


def test_an_integrated_gpu_is_used_only_where_there_is_no_other() -> None:
    integrated = driver_row("Vulkan1", "Intel Graphics", "Vulkan", 15_000, 14_000, "integrated GPU")
    both, _ = answered(integrated, PUBLISHED["llama.cpp 16659"][0])
    assert [device.name for device in Devices(tuple(both)).gpus] == ["Vulkan0"]
    alone, _ = answered(integrated)
    assert [device.name for device in Devices(tuple(alone)).gpus] == ["Vulkan1"]


def test_one_gpu_known_to_two_backends_is_one_device() -> None:
    cuda = driver_row("CUDA0", "NVIDIA GeForce RTX 2060", "CUDA", 5926, 5136, hardware_id="0000:01:00.0")
    vulkan = driver_row("Vulkan0", "NVIDIA GeForce RTX 2060", "Vulkan", 6144, 5136, hardware_id="0000:01:00.0")
    devices, _ = answered(cuda, vulkan)
    assert [device.name for device in devices] == ["CUDA0", "CPU"]


def test_two_equal_cards_are_two_devices() -> None:
    cards = [
        driver_row(f"CUDA{n}", "NVIDIA GeForce RTX 4090", "CUDA", 24_080, 9868, hardware_id=f"0000:0{n}:00.0")
        for n in (1, 2, 3)
    ]
    devices, _ = answered(*cards)
    assert len(Devices(tuple(devices)).gpus) == 3


# --- drivers that lie ---


@pytest.mark.parametrize(
    ("total_mib", "free_mib", "words"),
    [(0, 0, "no memory"), (8192, 9000, "9,437,184,000 free of 8,589,934,592"), (1 << 40, 0, "free of")],
)
def test_a_gpu_with_impossible_memory_is_left_out_with_a_sentence(total_mib: int, free_mib: int, words: str) -> None:
    devices, problem = answered(driver_row("ROCm0", "Odd card", "ROCm", total_mib, free_mib))
    assert [device.kind for device in devices] == ["CPU"]
    assert problem.startswith("Odd card is not used") and words in problem


def test_a_gpu_that_is_overfull_has_no_free_memory() -> None:
    row = driver_row("Vulkan0", "RX 9060 XT", "Vulkan", 16_304, 17_592_186_039_468)  # llama.cpp 20858: 4,948 too much
    devices, problem = answered(row)
    assert problem == "" and [device.memory_free for device in Devices(tuple(devices)).gpus] == [0]


@pytest.mark.parametrize("answer", [b"", b"{}", b"[1]", b'[{"name": "x"}]', b"not JSON"])
def test_an_answer_that_cannot_be_read_is_a_sentence(answer: bytes) -> None:
    devices, problem = read_answer(answer)
    assert devices == [] and "cannot be read" in problem


def test_an_answer_without_any_device_is_a_sentence() -> None:
    devices, problem = read_answer(b"[]")
    assert devices == [] and "not even the CPU" in problem


def test_a_name_from_a_driver_is_one_short_line() -> None:
    (device, _), _ = answered(driver_row("CUDA0", "Card\x1b[31m\n" + "x" * 500, "CUDA", 8192, 8000))
    assert device.description.isprintable() and len(device.description) <= 120


# --- this computer ---


def test_the_cpu_of_this_build_has_the_memory_that_this_computer_can_give() -> None:
    devices = read_devices()
    cpu = devices.find("cpu")
    assert cpu is not None and cpu.kind == "CPU" and cpu.description and cpu.unified
    assert cpu.memory_total == read_memory().total and 0 < cpu.memory_free <= cpu.memory_total


@pytest.mark.parametrize("fault", ["crashes", "reports nothing", "claims too much memory"])
def test_a_driver_that_fails_is_a_sentence_and_the_cpu_serves(broken_driver: pytest.MonkeyPatch, fault: str) -> None:
    broken_driver.setenv("TEST_DRIVER", fault)
    devices = read_devices()
    assert [device.kind for device in devices.all if device.kind != "accelerator"] == ["CPU"]
    assert devices.problem.endswith(".") and ("CPU" in devices.problem or "Boastful GPU" in devices.problem)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"  # later children do not meet that driver


def test_a_driver_that_hangs_is_given_up_and_the_cpu_serves(broken_driver: pytest.MonkeyPatch) -> None:
    broken_driver.setenv("TEST_DRIVER", "hangs")
    with DeviceReader(answer_seconds=1) as reader:
        devices = reader.current()
    assert "did not answer within 1 second" in devices.problem
    assert devices.find("CPU") is not None and devices.gpus == ()


def test_a_reader_that_is_closed_while_a_driver_hangs_ends_at_once(broken_driver: pytest.MonkeyPatch) -> None:
    broken_driver.setenv("TEST_DRIVER", "hangs")
    with DeviceReader(answer_seconds=3600) as reader:
        pass
    assert reader.known.gpus == ()


# --- the build ---


def test_the_backends_of_a_build_are_known_from_its_files(tmp_path: Path) -> None:
    for name in ("libllama.so", "libggml.so", "libggml-base.so.0", "libggml-cpu-haswell.so", "libggml-blas.dylib"):
        (tmp_path / name).touch()
    assert device_backends(tmp_path) == ()
    (tmp_path / "libggml-cuda.so").touch()
    (tmp_path / "libggml-vulkan.so.0.1").touch()
    assert device_backends(tmp_path) == ("cuda", "vulkan")
