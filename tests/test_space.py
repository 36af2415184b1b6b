"""The project as a Hugging Face Space: what the Hub reads of it, and the page that its variables bring up."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import yaml
from gradio_client import Client
from gradio_client.exceptions import AppError
from huggingface_hub import SpaceHardware
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from playground.gguf.filenames import parse_file_name
from playground.models.catalog import load_catalog
from playground.models.hub.names import repository_filter
from playground.settings import load_settings
from tests.support.playground_process import ROOT, PlaygroundProcess
from tests.support.space_process import (
    MEMORY_BYTES,
    PRELOADED,
    VARIABLES,
    project_table,
    pushed_files,
    space_process,
)
from tests.support.zerogpu_service import libraries, zerogpu_service

COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
LONGEST_DESCRIPTION = 60  # characters, the Hub's own limit
# Of the Hub's configuration reference, as of August 2026; license and tags are those of every repository.
DOCUMENTED_KEYS = {
    "title", "emoji", "colorFrom", "colorTo", "sdk", "python_version", "sdk_version", "suggested_hardware", "app_file",
    "app_port", "base_path", "fullWidth", "header", "short_description", "models", "datasets", "tags", "thumbnail",
    "pinned", "disable_embedding", "startup_duration_timeout", "custom_headers", "preload_from_hub", "license",
}  # fmt: skip
ZEROGPU_PYTHONS = {"3.10.13", "3.12.12"}  # of its documentation, as of August 2026


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pushed_files(tmp_path_factory.mktemp("pushed"))


@pytest.fixture(scope="module")
def front(pushed: Path) -> dict[str, Any]:
    """The block on top of the README."""
    begin, block, _ = (pushed / "README.md").read_text().split("---\n", 2)
    assert begin == ""
    read: dict[str, Any] = yaml.safe_load(block)
    return read


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return project_table()


# --- what the Hub reads ---


def test_the_front_matter_names_a_file_to_run_and_versions_that_the_project_supports(
    pushed: Path, front: dict[str, Any], project: dict[str, Any]
) -> None:
    assert front["sdk"] == "gradio" and (pushed / front["app_file"]).is_file()
    gradio = next(one for one in map(Requirement, project["dependencies"]) if one.name == "gradio")
    assert front["sdk_version"] in gradio.specifier
    assert isinstance(front["python_version"], str), "3.10 without quotes would be 3.1"
    assert front["python_version"] in SpecifierSet(project["requires-python"])
    assert front["python_version"] in ZEROGPU_PYTHONS, "the other kinds of Spaces take any version"


def test_the_front_matter_has_keys_that_the_hub_documents_with_values_by_its_rules(front: dict[str, Any]) -> None:
    assert front.keys() <= DOCUMENTED_KEYS
    assert {front["colorFrom"], front["colorTo"]} <= COLOURS
    assert len(front["short_description"]) <= LONGEST_DESCRIPTION
    assert front["suggested_hardware"] == SpaceHardware.ZERO_A10G.value, "what a free account can have"
    assert re.fullmatch(r"\d+[mh]", front["startup_duration_timeout"])
    assert front["license"] == "apache-2.0"
    assert all(isinstance(tag, str) for tag in front["tags"])


def test_the_preloaded_files_are_levels_of_models_that_visitors_may_use(front: dict[str, Any]) -> None:
    """As `owner/repo file,file`: of one model at least two levels, so that there is something to compare."""
    allowed, known = repository_filter(("catalogue",)), {model.repo for model in load_catalog()}
    named = dict(line.split(" ") for line in front["preload_from_hub"])
    assert sorted(named) == sorted(front["models"])
    assert all(repo in known and allowed(repo) for repo in named)
    levels = {}
    for repo, files in named.items():
        parsed = [parse_file_name(name) for name in files.split(",")]
        assert all(one and one.kind == "model" and one.level for one in parsed)
        assert len({one.base_name for one in parsed if one}) == 1
        levels[repo] = {one.level for one in parsed if one}
    assert max(map(len, levels.values())) > 1


def test_the_requirements_are_those_of_the_project_with_llama_cpp_prebuilt(
    pushed: Path, front: dict[str, Any], project: dict[str, Any]
) -> None:
    lines = (pushed / "requirements.txt").read_text().splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    options = [line for line in lines if line.startswith("-")]
    assert "--only-binary llama-cpp-python" in options
    (index,) = [urlsplit(one.split(" ")[1]) for one in options if one.startswith("--extra-index-url")]
    assert (index.scheme, index.path) == ("https", "/llama-cpp-python/whl/cpu")
    named = [Requirement(line) for line in lines if not line.startswith("-")]
    extras = project["optional-dependencies"]
    wanted = [Requirement(one) for one in (*project["dependencies"], *extras["starter"], *extras["mcp"])]
    assert {str(one) for one in named} == {str(one) for one in wanted if one.name != "gradio"}


def test_the_readme_is_still_a_readme(pushed: Path) -> None:
    text = (pushed / "README.md").read_text()
    assert text.count("\n---\n") == 1 and "\n# GGUF playground\n" in text
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
        assert (pushed / target).exists(), target


def test_a_space_listens_to_its_visitors_and_a_computer_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("PLAYGROUND_", "SPACE_"))]:
        monkeypatch.delenv(name)
    assert load_settings().host == "127.0.0.1"
    monkeypatch.setenv("SPACE_ID", "somebody/gguf-playground")
    assert load_settings().host == "0.0.0.0"


# --- the Space as it runs ---


@pytest.fixture(scope="module")
def running(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlaygroundProcess]:
    with space_process(tmp_path_factory.mktemp("space"), starter) as process:
        yield process


@pytest.fixture(scope="module")
def client(running: PlaygroundProcess) -> Client:
    return Client(running.address, verbose=False, headers={"x-forwarded-for": "203.0.113.9, 10.0.0.3"})


@pytest.mark.process
def test_the_page_opens_in_this_process_for_the_spaces_own_name(running: PlaygroundProcess) -> None:
    """Without a second server that renders it, whatever the variables ask for, and for any name it is called by."""
    place = urlsplit(running.address)
    line = http.client.HTTPConnection("127.0.0.1", place.port, timeout=30)
    line.request("GET", "/", headers={"Host": VARIABLES["SPACE_HOST"], "X-Forwarded-Proto": "https"})
    answer = line.getresponse()
    page = answer.read().decode()
    assert answer.status == 200 and "GGUF playground" in page
    assert "frame-ancestors" not in answer.headers["content-security-policy"]
    started = psutil.Process(running.pid).children(recursive=True)
    assert "node" not in {child.name() for child in started}
    assert running.ports() == {place.port}


@pytest.mark.process
def test_memory_and_cores_are_the_spaces_own(client: Client) -> None:
    machine = client.predict(api_name="/machine")
    assert machine["memory_total"] == MEMORY_BYTES and machine["limited_by"] == "the Space's memory"
    assert 0 < machine["memory_usable"] < MEMORY_BYTES
    assert machine["cores_usable"] <= 2


@pytest.mark.process
def test_a_preloaded_model_and_the_starter_answer(client: Client) -> None:
    levels = client.predict(model=PRELOADED, api_name="/levels")["levels"]
    assert [level["reference"] for level in levels] == [f"{PRELOADED}:Q4_K_M", f"{PRELOADED}:Q8_0"]
    assert {level["origin"] for level in levels} == {"hub cache"}
    for model in (f"{PRELOADED}:Q4_K_M", "starter"):
        reply = client.predict(prompt="What is 2+2?", model=model, temperature=0, context=1024, api_name="/chat")
        assert "4" in reply["text"] and reply["finish_reason"] == "end of text"


@pytest.mark.process
def test_a_comparison_of_two_preloaded_levels_answers(client: Client) -> None:
    both = client.predict(
        prompt="What is 2+2?", model_a=f"{PRELOADED}:Q8_0", model_b=f"{PRELOADED}:Q4_K_M", temperature=0,
        context=1024, max_tokens=16, api_name="/compare",
    )  # fmt: skip
    assert [pane["state"] for pane in both["panes"]] == ["done", "done"]


@pytest.mark.process
@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"api_name": "/levels", "model": "/etc/passwd"}, "There is no model"),
        ({"api_name": "/levels", "model": "stranger/Model-GGUF"}, "not allowed here"),
        ({"api_name": "/plan", "model": "stranger/Model-GGUF:Q4_K_M"}, "not allowed here"),
        ({"api_name": "/chat", "prompt": "x", "model": "starter:Q2_0"}, "not on this computer at the level"),
        ({"api_name": "/chat", "prompt": "x", "max_tokens": 1025}, "up to 1,024 tokens here"),
        ({"api_name": "/chat", "prompt": "x" * 20_001}, "takes up to 20,000"),
    ],
)
def test_what_is_off_on_a_space_is_refused(client: Client, asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AppError, match=sentence):
        client.predict(**asked)


# --- the same repository on ZeroGPU ---


@pytest.mark.process
def test_on_zerogpu_a_gpu_function_is_reported_and_the_processor_answers(starter: Path, tmp_path: Path) -> None:
    """With the real package `spaces`; without the report the platform ends the Space."""
    with zerogpu_service() as service:
        variables = {**service.variables, "PLAYGROUND_ZEROGPU_LIBRARIES": str(libraries(tmp_path / "libraries"))}
        with space_process(tmp_path, starter, variables) as process:
            assert service.asked == ["/startup-report"]
            with urllib.request.urlopen(f"{process.address}/config", timeout=60) as answer:
                assert "models run on the processor" in answer.read().decode()
            client = Client(process.address, verbose=False)
            reply = client.predict(
                prompt="What is 2+2?", model="starter", context=1024, max_tokens=16, api_name="/chat"
            )
            assert reply["text"] and service.asked == ["/startup-report"], "no GPU was asked for"
            assert client.predict(api_name="/machine")["memory_total"] == MEMORY_BYTES
            assert process.ports() == {process.port}


@pytest.mark.process
def test_elsewhere_the_page_imports_nothing_of_zerogpu() -> None:
    code = "import sys, app; assert not {'spaces', 'gradio'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
