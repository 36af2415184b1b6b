"""Makes or updates a Hugging Face Space of this project: `publish_space.py OWNER/NAME`.

Uploads what git keeps in one commit, removes what git keeps no longer, sets hardware, variables and secrets, and prints
the address. Log in first: `.venv/bin/hf auth login`. Which account may have which hardware: docs/hosting.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi, SpaceHardware
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

PROJECT: Final = Path(__file__).resolve().parent.parent
ZERO_GPU: Final = SpaceHardware.ZERO_A10G.value  # what a free account can have
KEPT_BY_THE_HUB: Final = {".gitattributes"}


class CannotPublish(Exception):
    """args: the problem, and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 for an error, which is two lines on standard error."""
    asked = read_arguments(arguments)
    try:
        print(publish(HfApi(), asked))
    except CannotPublish as fault:
        print(*fault.args, sep="\n", file=sys.stderr)
        return 1
    return 0


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Makes or updates a Hugging Face Space of this project.")
    parser.add_argument("space", metavar="OWNER/NAME", help="the Space, such as your-name/gguf-playground")
    parser.add_argument(
        "--hardware", choices=[one.value for one in SpaceHardware], metavar="HARDWARE",
        help=f"a new Space has {ZERO_GPU} (ZeroGPU) if nothing is said, an existing one keeps its own; "
        "cpu-basic, cpu-upgrade, t4-small, …",
    )  # fmt: skip
    parser.add_argument(
        "--variable", action="append", default=[], metavar="NAME=VALUE", help="a setting that everybody may read"
    )
    parser.add_argument(
        "--secret", action="append", default=[], metavar="NAME",
        help="a setting that nobody may read, such as PLAYGROUND_PASSWORD; its value is that of this environment",
    )  # fmt: skip
    parser.add_argument("--private", action="store_true", help="a new Space that only its owner can see")
    return parser.parse_args(arguments)


def publish(api: HfApi, asked: argparse.Namespace) -> str:
    """Returns the address of the Space; raises CannotPublish."""
    variables = dict(one.partition("=")[::2] for one in asked.variable)
    secrets = {name: os.environ.get(name, "") for name in asked.secret}
    for name in (name for name, value in secrets.items() if not value):
        raise CannotPublish(f"The secret {name} has no value.", f"Set it for this command: {name}=… and the rest.")
    files = kept_files()
    try:
        is_new = not api.repo_exists(asked.space, repo_type="space")
        if is_new:
            hardware = SpaceHardware(asked.hardware or ZERO_GPU)
            api.create_repo(
                asked.space,
                repo_type="space",
                space_sdk="gradio",
                space_hardware=hardware,
                private=asked.private or None,
            )
        elif asked.hardware:
            api.request_space_hardware(asked.space, SpaceHardware(asked.hardware))
        for name, value in variables.items():
            api.add_space_variable(asked.space, name, value)
        for name, value in secrets.items():
            api.add_space_secret(asked.space, name, value)
        before = set(api.list_repo_files(asked.space, repo_type="space"))
        operations: list[CommitOperationAdd | CommitOperationDelete | CommitOperationCopy] = [
            *(CommitOperationDelete(name) for name in sorted(before - files.keys() - KEPT_BY_THE_HUB)),
            *(CommitOperationAdd(name, path) for name, path in files.items()),
        ]
        api.create_commit(asked.space, operations, commit_message="Publish the GGUF playground", repo_type="space")
    except LocalTokenNotFoundError as error:
        raise CannotPublish("Nobody is logged in to the Hub here.", "Log in first: .venv/bin/hf auth login") from error
    except HfHubHTTPError as error:
        raise CannotPublish(*explain(error, asked)) from error
    except (OSError, httpx2.HTTPError) as error:
        raise CannotPublish(f"The Hub at {api.endpoint} cannot be reached: {error}", "Try again later.") from error
    return f"{api.endpoint}/spaces/{asked.space}"


def kept_files() -> dict[str, Path]:
    """What git keeps of this project, by its path in it; raises CannotPublish where git does not know it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        raise CannotPublish("git does not know this copy of the project.", "Clone it with git, and publish from there.")
    names = filter(None, listed.stdout.split("\0"))
    return {name: PROJECT / name for name in names if (PROJECT / name).exists()}


def explain(error: HfHubHTTPError, asked: argparse.Namespace) -> tuple[str, str]:
    """The Hub's refusal as a problem and a remedy."""
    status = error.response.status_code
    if status == 402:
        return (
            f"The Hub wants a paid plan for {asked.hardware or ZERO_GPU} (it answered 402).",
            f"A free account, older than 30 days and with a verified address, can have two Spaces on ZeroGPU: "
            f"--hardware {ZERO_GPU}. CPU Basic needs PRO, or Team for an organization.",
        )
    if status in (401, 403):
        return (
            f"The Hub does not let this account write to {asked.space} (it answered {status}).",
            "Log in with a token that may write: .venv/bin/hf auth login",
        )
    return f"The Hub answered {status}: {error.server_message or error}", "Try again later."


if __name__ == "__main__":
    sys.exit(main())
