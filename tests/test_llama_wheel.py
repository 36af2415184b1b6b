"""The search for a prebuilt llama.cpp: the right link of an index, and a reason for each fault of one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest

from scripts.backends import cuda_folder, find_backends
from scripts.install_llama import Asked, CannotInstall
from scripts.llama_wheel import IndexUnreachable, NoWheel, Wheel, compatibility_tags, download, find_wheel
from tests.support.wheel_index import LOGIN_PAGE, WheelIndex, wheel_index

TAGS = ["cp312-cp312-manylinux_2_36_x86_64", "py3-none-manylinux_2_28_x86_64", "py3-none-manylinux_2_17_x86_64",
        "py3-none-linux_x86_64", "py3-none-any"]  # fmt: skip
PAGE = "/cpu/llama-cpp-python/"


def wheel_name(platform: str, version: str = "0.3.36", python: str = "py3-none") -> str:
    return f"llama_cpp_python-{version}-{python}-{platform}.whl"


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[WheelIndex]:
    monkeypatch.setattr("scripts.llama_wheel.check_processor", lambda: None)  # this one's features are not the subject
    with wheel_index() as opened:
        yield opened


def found(index: WheelIndex, folder: str = "cpu", version: str = "0.3.36", seconds: float = 60) -> str:
    return find_wheel(index.address, folder, version, TAGS, seconds).name


def test_the_wheel_for_this_python_system_and_c_library_is_chosen(index: WheelIndex) -> None:
    right = wheel_name("manylinux_2_17_x86_64.manylinux2014_x86_64")
    others = (
        "macosx_11_0_arm64",
        "win_amd64",
        "musllinux_1_2_x86_64",
        "manylinux_2_17_aarch64",
        "manylinux_2_39_x86_64",
    )
    index.list_wheels(
        "cpu", *(wheel_name(one) for one in others), right, wheel_name("linux_x86_64", "0.3.35"),
        wheel_name("manylinux_2_28_x86_64", python="cp38-cp38"),
    )  # fmt: skip
    assert found(index) == right


def test_of_two_that_suit_the_one_for_the_newer_c_library_is_chosen(index: WheelIndex) -> None:
    index.list_wheels("cpu", wheel_name("manylinux_2_17_x86_64"), wheel_name("manylinux_2_28_x86_64"))
    assert found(index) == wheel_name("manylinux_2_28_x86_64")


def test_a_local_version_of_a_build_counts_as_the_version(index: WheelIndex) -> None:
    index.list_wheels("cu124", wheel_name("manylinux_2_28_x86_64", "0.3.36%2Bcu124"))
    assert found(index, "cu124") == wheel_name("manylinux_2_28_x86_64", "0.3.36+cu124")


@pytest.mark.parametrize("library", ["musl", "glibc"])
def test_a_plain_linux_wheel_needs_glibc(index: WheelIndex, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: (library if library == "glibc" else "", "2.36"))
    index.list_wheels("cpu", wheel_name("linux_x86_64"))
    if library == "glibc":
        assert found(index) == wheel_name("linux_x86_64")
    else:
        with pytest.raises(NoWheel, match="is for this system"):
            found(index)


def test_a_version_that_is_missing_is_said_with_its_number(index: WheelIndex) -> None:
    index.list_wheels(
        "cpu", wheel_name("manylinux_2_28_x86_64", "0.3.35"), wheel_name("manylinux_2_28_x86_64", "0.3.37")
    )
    with pytest.raises(NoWheel, match=r"has no 0\.3\.36 for cpu"):
        found(index)


def test_wheels_for_other_systems_alone_are_none(index: WheelIndex) -> None:
    index.list_wheels("cpu", wheel_name("win_amd64"), wheel_name("macosx_11_0_arm64"))
    with pytest.raises(NoWheel, match=r"no prebuilt wheel of 0\.3\.36 for cpu is for this system"):
        found(index)


def test_an_index_that_never_answers_is_left_after_the_time(index: WheelIndex) -> None:
    index.silent.add(PAGE)
    with pytest.raises(IndexUnreachable, match=r"did not answer within 0\.2 s"):
        found(index, seconds=0.2)


def test_an_index_that_is_not_there_is_said_to_be_unreachable() -> None:
    with wheel_index() as closed:
        pass
    with pytest.raises(IndexUnreachable, match="cannot be reached"):
        find_wheel(closed.address, "cpu", "0.3.36", TAGS)


def test_the_page_of_a_login_is_not_taken_for_a_list(index: WheelIndex) -> None:
    index.pages[PAGE] = LOGIN_PAGE
    with pytest.raises(NoWheel, match="login"):
        found(index)


def test_a_folder_that_the_index_does_not_have_is_no_crash(index: WheelIndex) -> None:
    with pytest.raises(NoWheel, match="answered 404"):
        found(index, "cu999")


def test_a_page_of_any_bytes_leads_to_a_reason(index: WheelIndex) -> None:
    index.pages[PAGE] = bytes(range(256)) * 64 + b"<a href='http://[::bad'>x</a><a href>"
    with pytest.raises(NoWheel):
        found(index)


# --- the download ---


def some_wheel(content: bytes | None = None) -> bytes:
    packed = BytesIO()
    with ZipFile(packed, "w") as archive:
        archive.writestr("llama_cpp/__init__.py", content or b"")
    return packed.getvalue()


def downloaded(index: WheelIndex, body: bytes, target: Path, digest: str | None = None) -> Path:
    index.pages["/files/a.whl"] = body
    return download(Wheel(f"{index.address}/files/a.whl", "a.whl", digest), target)


def test_a_wheel_arrives_as_it_was_sent(index: WheelIndex, tmp_path: Path) -> None:
    body = some_wheel(b"x" * 300_000)
    assert downloaded(index, body, tmp_path, sha256(body).hexdigest()).read_bytes() == body


@pytest.mark.parametrize(
    ("body", "digest", "reason"),
    [(LOGIN_PAGE, None, "login"), (some_wheel(), "0" * 64, "not the file that the index describes")],
)
def test_something_else_than_the_wheel_is_refused(
    index: WheelIndex, tmp_path: Path, body: bytes, digest: str | None, reason: str
) -> None:
    with pytest.raises(NoWheel, match=reason):
        downloaded(index, body, tmp_path, digest)


def test_a_wheel_that_is_listed_but_gone_is_a_reason(index: WheelIndex, tmp_path: Path) -> None:
    with pytest.raises(NoWheel, match="404"):
        download(Wheel(f"{index.address}/files/gone.whl", "gone.whl", None), tmp_path)


def test_a_download_that_stops_on_its_way_is_left(
    index: WheelIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.llama_wheel.LEAST_SECONDS", 0.2)
    index.silent.add("/files/a.whl")
    with pytest.raises(NoWheel, match="could not be downloaded"):
        downloaded(index, some_wheel(), tmp_path)


# --- the backend ---


def test_the_tags_are_those_of_the_python_to_install_into() -> None:
    tags = compatibility_tags(Path(sys.executable))
    assert tags[0].startswith(f"cp{sys.version_info[0]}{sys.version_info[1]}-") and "py3-none-any" in tags


@pytest.mark.parametrize(
    ("driver", "capability", "folder"),
    [
        ((13, 2), (8, 9), "cu132"),
        ((13, 1), (12, 0), "cu130"),
        ((13, 0), (6, 1), "cu125"),  # too old for CUDA 13
        ((12, 8), (8, 6), "cu125"),
        ((12, 2), (7, 5), "cu122"),
        ((12, 0), (8, 6), "cu118"),
        ((12, 0), (9, 0), None),  # too new for CUDA 11.8
        ((11, 4), (8, 6), None),
        ((13, 0), (5, 2), None),
    ],
)
def test_the_newest_cuda_that_driver_and_gpu_have_is_chosen(
    driver: tuple[int, int], capability: tuple[int, int], folder: str | None
) -> None:
    assert cuda_folder(driver, capability) == folder


NVIDIA_SMI = """#!/bin/sh
[ $# -gt 0 ] && echo 'NVIDIA GeForce RTX 4070, 8.9' || echo '| Driver Version: 555.42  CUDA Version: 12.5  |'
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a Mac has Metal")
@pytest.mark.parametrize("works", [True, False])
def test_an_nvidia_gpu_is_used_if_its_driver_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    (tmp_path / "nvidia-smi").write_text(NVIDIA_SMI if works else "#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    backends = find_backends("")
    assert backends[-1].name == "cpu", "the processor is what remains if nothing else works"
    if works:
        assert (backends[0].name, backends[0].folder) == ("cuda", "cu125") and "RTX 4070" in backends[0].reason
        assert [one.name for one in find_backends("cpu")] == ["cpu"]
    else:
        assert "cuda" not in [one.name for one in backends]


def test_an_image_for_cuda_is_built_where_no_gpu_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VERSION", "12.4.1")
    monkeypatch.setattr("scripts.backends._existing", lambda path: None)
    cuda, _ = find_backends("cuda")
    assert cuda.folder == "cu124"
    assert Asked.from_environment({"GPU": "elsewhere"}).for_elsewhere


def test_a_backend_that_there_is_not_is_refused_with_the_names() -> None:
    with pytest.raises(CannotInstall) as fault:
        Asked.from_environment({"BACKEND": "gpu"})
    assert "BACKEND=gpu" in fault.value.args[0] and "vulkan" in fault.value.args[1]


def test_an_unrelated_variable_named_build_means_nothing() -> None:
    assert Asked.from_environment({"BUILD": "1234"}) == Asked()


def test_options_for_the_build_ask_for_a_build_unless_prebuilt_is_preferred() -> None:
    assert Asked.from_environment({"CMAKE_ARGS": "-DX=1"}).build == "source"
    assert Asked.from_environment({"CMAKE_ARGS": "-DX=1", "BUILD": "prebuilt"}).build == "prebuilt"
