"""The Hub's protocol for Spaces, as far as a Space is made, filled and set up with it: a part of the Hub stand-in."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PAID = ("cpu-basic", "cpu-upgrade", "t4-small", "l4x1")  # hardware that a free account cannot have


@dataclass
class Space:
    """A Space of the stand-in; its files are those of its last commit."""

    name: str
    hardware: str | None
    private: bool
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.bin filter=lfs"})
    variables: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    commits: int = 0

    @property
    def runtime(self) -> dict[str, Any]:
        return {"stage": "BUILDING", "hardware": {"current": None, "requested": self.hardware}}


@dataclass
class SpacesApi:
    """Answers one request: `say` sends JSON, `refuse` a status with a message.

    has_plan: whether the account pays. token: the one that may write.
    """

    spaces: dict[str, Space] = field(default_factory=dict)
    has_plan: bool = False
    token: str = "hf_writer"

    def answer(
        self, method: str, route: str, body: bytes, token: str, say: Callable[[Any], None],
        refuse: Callable[[int, str, str], None],
    ) -> None:  # fmt: skip
        if method in ("POST", "DELETE") and token != self.token:
            refuse(401, "", "Invalid credentials")
        elif route == "/api/validate-yaml":
            say({"errors": [], "warnings": []})
        elif route == "/api/repos/create":
            self._create(json.loads(body), say, refuse)
        elif match := re.fullmatch(r"/api/spaces/([^/]+/[^/]+)(?:/(\w+)(?:/.*)?)?", route):
            space = self.spaces.get(match[1])
            if space is None:
                refuse(404, "RepoNotFound", "Repository not found")
            else:
                say(self._about(space, match[2], body))
        else:
            refuse(404, "", "Not found")

    def _create(
        self, asked: dict[str, Any], say: Callable[[Any], None], refuse: Callable[[int, str, str], None]
    ) -> None:
        hardware = asked.get("hardware", "cpu-basic")
        if hardware in PAID and not self.has_plan:
            refuse(402, "", "hosting Gradio and Docker Spaces on free cpu-basic requires a PRO subscription")
            return
        name = f"{asked['organization']}/{asked['name']}"
        self.spaces[name] = Space(name, hardware, asked.get("visibility") == "private")
        say({"url": f"/spaces/{name}"})

    def _about(self, space: Space, what: str | None, body: bytes) -> Any:
        if what == "hardware":
            space.hardware = json.loads(body)["flavor"]
            return space.runtime
        if what in ("variables", "secrets"):
            asked = json.loads(body)
            (space.variables if what == "variables" else space.secrets)[asked["key"]] = asked["value"]
            return {name: {"value": value} for name, value in space.variables.items()}
        if what == "tree":
            return [{"type": "file", "path": path, "size": len(content), "oid": git_id(content)}
                    for path, content in space.files.items()]  # fmt: skip
        if what == "preupload":
            return {"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                              for one in json.loads(body)["files"]]}  # fmt: skip
        if what == "commit":
            return self._commit(space, [json.loads(line) for line in body.splitlines()])
        return {"id": space.name, "sha": "0" * 40, "private": space.private, "siblings": [], "runtime": space.runtime}

    def _commit(self, space: Space, lines: list[dict[str, Any]]) -> dict[str, str]:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                space.files[value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "deletedFile":
                del space.files[value["path"]]
        space.commits += 1
        return {"commitUrl": f"/spaces/{space.name}/commit/{space.commits}", "commitOid": "0" * 40}


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
