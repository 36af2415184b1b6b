"""`levels`, `plan` and `download` of a model on the Hub, with the Hub on loopback and the starter's real bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from playground.__main__ import main
from tests.support.hub_stand_in import HubStandIn, with_starter

WHOLE = "test/SmolLM2-135M-Instruct-GGUF:Q4_1"
SPLIT = "test/SmolLM2-135M-Instruct-Split-GGUF"


@pytest.fixture(scope="module")
def server(starter: Path) -> Iterator[HubStandIn]:
    with HubStandIn() as server:
        with_starter(server, starter)
        yield server


@pytest.fixture(autouse=True)
def own_folders(server: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)  # as HF_ENDPOINT sets both in a fresh process
    files = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setenv("PLAYGROUND_DATA_DIR", str(tmp_path / "data"))
    server.forget_requests()


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code = main([*arguments, "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert printed.out.count("\n") == 1
    return json.loads(printed.out)


def test_levels_of_a_repository_have_verdicts_before_anything_is_downloaded(
    capsys: pytest.CaptureFixture[str], server: HubStandIn, starter: Path
) -> None:
    record = answer(capsys, "levels", WHOLE)
    levels = record["levels"]
    assert record["left_out"] == []
    assert [(level["level"], level["origin"]) for level in levels] == [("Q8_0", "hub"), ("Q4_1", "hub")]
    chosen = levels[1]
    assert chosen["size"] == starter.stat().st_size and chosen["verdict"] in ("fits", "tight", "wont_fit")
    assert not chosen["estimated"] and levels[0]["estimated"]
    assert server.bytes_sent() < 0.08 * starter.stat().st_size
    assert main(["levels", WHOLE]) == 0
    assert "2 levels on the Hub." in capsys.readouterr().out


def test_a_plan_of_a_level_on_the_hub_equals_that_of_the_file(
    capsys: pytest.CaptureFixture[str], starter: Path
) -> None:
    measured = ("weights", "repacked", "kv_cache", "recurrent", "compute", "output", "largest_context")
    there = answer(capsys, "plan", f"{SPLIT}:Q4_1", "--context", "4096")
    here = answer(capsys, "plan", "starter", "--context", "4096")
    assert {name: there[name] for name in measured} == {name: here[name] for name in measured}


def test_a_download_is_whole_listed_and_not_repeated(
    capsys: pytest.CaptureFixture[str], server: HubStandIn, starter: Path
) -> None:
    first = answer(capsys, "download", f"{SPLIT}:Q4_1")
    assert first["received"] == first["size"] and Path(first["path"]).is_file()
    (level,) = answer(capsys, "levels", SPLIT)["levels"]
    assert (level["origin"], len(level["files"])) == ("hub cache", 3)
    again = answer(capsys, "download", f"{SPLIT}:Q4_1")
    assert again["received"] == 0 and again["path"] == first["path"]
    (there,) = answer(capsys, "levels", SPLIT, "--hub")["levels"]
    assert there["origin"] == "hub"


def test_offline_a_download_of_what_is_here_gives_its_path(
    capsys: pytest.CaptureFixture[str], server: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = answer(capsys, "download", WHOLE)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repo, file = WHOLE.partition(":")[0], Path(first["path"]).name
    for reference in (WHOLE, repo, f"{repo}:{file}", f"{server.endpoint}/{repo}/blob/main/{file}"):
        again = answer(capsys, "download", reference)
        assert (again["path"], again["received"], again["size"]) == (first["path"], 0, first["size"])
    assert main(["download", f"{SPLIT}:Q4_1"]) == 1
    assert "Offline mode is on" in capsys.readouterr().err


@pytest.mark.parametrize("command", [("levels",), ("plan", "--context", "2048"), ("download",)])
@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("test/nobody", "There is no repository test/nobody"),
        ("test/Gated-GGUF", "accepted its licence"),
        (f"{SPLIT}:Q9", "does not offer Q9"),
        ("a/b/c", "is not the name of a model"),
    ],
)
def test_what_the_hub_refuses_is_one_line_of_error(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...], model: str, words: str
) -> None:
    assert main([command[0], model, *command[1:]]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and words in printed.err and printed.err.count("\n") == 1


def test_a_path_is_never_asked_of_the_hub(capsys: pytest.CaptureFixture[str], server: HubStandIn) -> None:
    for path in ("./models/x.gguf", "/models/x", "models/x.gguf"):
        assert main(["levels", path]) == 1
        assert capsys.readouterr().err
    assert not server.requests
