"""Builds a llama.cpp with Vulkan beside the installed one, for `benchmarks.device_check` on a computer without a GPU.

Mesa's software driver (llvmpipe) has what ggml's RPC devices of the tests lack: host buffers, and batches that
llama.cpp sends to the device on its own (op_offload), as with CUDA. On Debian: `apt install cmake glslc libvulkan-dev
spirv-headers mesa-vulkan-drivers`. Only ggml's Vulkan backend is compiled, in about ten minutes on two cores; the
installed package is copied to `.venv/test-vulkan/`, and gets this backend. Then:

    GGML_VK_VISIBLE_DEVICES=0 PYTHONPATH=.venv/test-vulkan python -m benchmarks.device_check --without-speed
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from scripts.device_library import say, unpacked_source

FOLDER = Path(sys.prefix) / "test-vulkan"
PROGRAMS = ("cmake", "c++", "glslc")
OPTIONS = ("-DCMAKE_BUILD_TYPE=Release", "-DGGML_VULKAN=ON", "-DBUILD_SHARED_LIBS=ON", "-DGGML_OPENMP=OFF")


def main() -> int:
    package = FOLDER / "llama_cpp"
    if package.exists():
        say(f"It is built: {package}")
        return 0
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        say(f"Cannot be built without {', '.join(missing)}.")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        source = unpacked_source(version("llama-cpp-python"), Path(folder), lambda inside: inside.startswith("ggml/"))
        if source is None:
            say("The source package cannot be had.")
            return 1
        half_done = FOLDER / "part"
        shutil.rmtree(half_done, ignore_errors=True)
        if not built(source / "ggml", Path(folder) / "build", half_done):
            say("The build failed.")
            return 1
        half_done.rename(package)
    say(f"Built: {package}")
    return 0


def built(ggml: Path, build: Path, package: Path) -> bool:
    """Whether the copy of the installed package at `package` has the backend now."""
    leave_out_validation_layer(ggml / "src" / "ggml-vulkan" / "ggml-vulkan.cpp")
    (ggml / "ggml.pc.in").touch()  # not in the source package, and wanted by its own build file
    commands = (
        ["cmake", "-S", str(ggml), "-B", str(build), *OPTIONS],
        ["cmake", "--build", str(build), "--target", "ggml-vulkan"],
    )
    if any(subprocess.call(command) != 0 for command in commands):
        return False
    spec = find_spec("llama_cpp")
    assert spec is not None and spec.submodule_search_locations
    shutil.copytree(next(iter(spec.submodule_search_locations)), package, symlinks=True)
    libraries = package / "lib"
    backend = next(build.rglob("libggml-vulkan.so")).resolve()
    soname = "libggml-vulkan.so.0"
    shutil.copy(backend, libraries / soname)
    (libraries / "libggml-vulkan.so").symlink_to(soname)
    registry = build / "libggml.so"
    command = [
        "c++", "-std=c++17", "-O2", "-fPIC", "-shared", "-DGGML_BUILD", "-DGGML_SHARED", "-DGGML_BACKEND_SHARED",
        "-DGGML_USE_CPU", "-DGGML_USE_VULKAN", f"-I{ggml / 'include'}", f"-I{ggml / 'src'}",
        str(ggml / "src" / "ggml-backend-reg.cpp"), str(ggml / "src" / "ggml-backend-dl.cpp"),
        "-o", str(registry), "-Wl,-soname,libggml.so.0", "-Wl,-rpath,$ORIGIN", "-Wl,--disable-new-dtags",
        f"-L{libraries}", "-lggml-base", "-lggml-cpu", "-lggml-vulkan", "-ldl",
    ]  # fmt: skip
    if subprocess.call(command) != 0:
        return False
    for place in list(libraries.glob("libggml.so*")):  # a wheel has a copy under each of its names
        place.unlink()
        shutil.copy(registry, place)
    return True


def leave_out_validation_layer(source: Path) -> None:
    """Vulkan headers before 1.3.272, such as Debian 12's, lack what a debug feature of the backend is written with."""
    text = source.read_text()
    before, _, rest = text.partition("    VkBool32 enable_best_practice")
    _, create, after = rest.partition("    vk::InstanceCreateInfo instance_create_info(")
    source.write_text(before + create + after.replace("extensions, &layer_setting_info);", "extensions);"))


if __name__ == "__main__":
    sys.exit(main())
