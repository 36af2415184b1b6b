"""llama.cpp with CUDA for ZeroGPU: fetched from an index of wheels into a folder of its own, while the page is open."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Generator, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from playground.engine.zerogpu.gpu import CUDA_PACKAGES, PACKAGE, ZeroGpu
from playground.engine.zerogpu.gpu_function import GpuJob
from playground.llama.params import ALL_LAYERS
from tests.support.wheel_index import WheelIndex, wheel_index


def never(job: GpuJob) -> Generator[bytes, None, None]:
    raise AssertionError
    yield b""


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[WheelIndex]:
    """It serves as the registry, too."""
    with wheel_index() as opened:
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", f"{opened.address}/registry")
        monkeypatch.setenv("PIP_FIND_LINKS", "")
        yield opened


def offer(index: WheelIndex, folder: str, package: str, number: str, files: list[str], place: Path) -> None:
    """A package with these empty files."""
    name = package.replace("-", "_")
    wheel = place / f"{name}-{number}-py3-none-any.whl"
    about = f"{name}-{number}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in files:
            archive.writestr(file, "")
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {number}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    link = f'<a href="{index.address}/files/{wheel.name}">{wheel.name}</a>'
    index.pages[f"/{folder}/{package}/"] = f"<!DOCTYPE html><html><body>{link}</body></html>".encode()
    index.pages[f"/files/{wheel.name}"] = wheel.read_bytes()


def test_what_is_fetched_puts_models_on_the_gpu_and_is_kept(index: WheelIndex, tmp_path: Path) -> None:
    files = ["llama_cpp/__init__.py", "llama_cpp/lib/libggml-cuda.so"]
    offer(index, "cu125", PACKAGE, version(PACKAGE), files, tmp_path)
    for package in CUDA_PACKAGES:
        offer(index, "registry", package, "12.5", [f"nvidia/{package}/lib/library.so"], tmp_path)
    gpu = ZeroGpu(tmp_path / "data" / "zerogpu", f"{index.address}/cu125", 2, never, lambda: 0)
    assert "still being fetched" in gpu.problem
    gpu.wait_for_fetch(60)
    assert gpu.problem == ""
    assert (gpu.placement.devices, gpu.placement.gpu_layers) == (("CUDA0",), ALL_LAYERS)
    assert gpu.libraries["LD_LIBRARY_PATH"].count("nvidia/") == len(CUDA_PACKAGES)
    asked = len(index.asked)
    assert ZeroGpu(tmp_path / "data" / "zerogpu", f"{index.address}/cu125", 2, never, lambda: 0).problem == ""
    assert len(index.asked) == asked


def test_an_index_without_the_version_is_said_and_the_processor_serves(index: WheelIndex, tmp_path: Path) -> None:
    offer(index, "cu125", PACKAGE, "0.0.1", ["llama_cpp/__init__.py"], tmp_path)
    gpu = ZeroGpu(tmp_path / "zerogpu", f"{index.address}/cu125", 2, never, lambda: 0)
    gpu.wait_for_fetch(60)
    assert "could not be fetched" in gpu.problem and version(PACKAGE) in gpu.problem
    assert not (tmp_path / "zerogpu").exists()
