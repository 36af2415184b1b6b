"""`download`: a level from the Hugging Face Hub, checked; an interrupted download continues."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from playground.cli.output import ProgressLine, Report
from playground.settings import Settings
from playground.text_format import gigabytes, gigabytes_apart, percent

if TYPE_CHECKING:
    from playground.cli.arguments import Commands
    from playground.models.hub.names import HubReference
    from playground.models.hub.transfer import Transfer
    from playground.models.model_file import ModelFile


def add_to(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("download", help="download a level of a model from the Hub")
    parser.add_argument("model", metavar="owner/repo:LEVEL", help="or an address; without a level the recommended one")
    return parser


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    from playground.errors import HubProblem
    from playground.models.file_records import record_download
    from playground.models.hub.client import HubClient
    from playground.models.hub.headers import HubHeaders
    from playground.models.hub.names import parse_reference
    from playground.models.hub.transfer import Transfer

    hub = HubClient()
    meant = parse_reference(arguments.model, hub.endpoint)
    try:
        level = hub.fetch_repository(meant.repo).resolve_level(meant.level, path=meant.path)
    except HubProblem:
        if (here := _file_here(meant, settings)) is None:
            raise
        return _report(here.name, here.level, here.path, here.size, 0)
    headers = HubHeaders(hub, settings.data_dir / "headers")
    with ProgressLine() as line:
        transfer = Transfer(hub, headers, level, lambda: line.show(_progress(transfer)))
        path = transfer.download_level()
    if transfer.bytes_received:
        record_download(settings.data_dir, path)
    return _report(level.reference, level.level, path, level.size, transfer.bytes_received)


def _file_here(meant: HubReference, settings: Settings) -> ModelFile | None:
    """The file that is on this computer already, where the Hub cannot be asked."""
    from playground.errors import PlaygroundError
    from playground.models.library import Library

    named = meant.path or meant.level
    try:
        return Library(settings).find_file(f"{meant.repo}:{named}" if named else meant.repo, by_path=False)
    except PlaygroundError:
        return None


def _report(name: str, level: str, path: Path, size: int, received: int) -> Report:
    record = {"model": name, "level": level, "path": str(path), "size": size, "received": received}
    words = f"{gigabytes(received)} downloaded." if received else "Already here."
    return Report(record, f"{name} is at {path}: {gigabytes(size)}. {words}")


def _progress(transfer: Transfer) -> str:
    done, total = gigabytes_apart(transfer.bytes_done, transfer.level.size)
    return f"{transfer.stage} {percent(transfer.bytes_done / transfer.level.size)}, {done} of {total}"
