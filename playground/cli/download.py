"""`download`: a level from the Hugging Face Hub into its cache on this disk, checked; taken up where it broke off."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from playground.cli.output import Report
from playground.settings import Settings
from playground.text_format import gibibytes, gibibytes_apart, percent

if TYPE_CHECKING:
    from playground.cli.arguments import Commands
    from playground.models.hub.transfer import Transfer


def add_to(commands: Commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("download", help="bring a level of a model from the Hub")
    parser.add_argument("model", metavar="owner/repo:LEVEL", help="or an address; without a level the recommended one")
    return parser


def run(arguments: argparse.Namespace, settings: Settings) -> Report:
    from playground.models.file_records import record_download
    from playground.models.hub.client import HubClient
    from playground.models.hub.headers import HubHeaders
    from playground.models.hub.names import parse_reference
    from playground.models.hub.transfer import Transfer

    hub = HubClient()
    meant = parse_reference(arguments.model, hub.endpoint)
    level = hub.fetch_repository(meant.repo).resolve_level(meant.level, path=meant.path)
    transfer = Transfer(hub, HubHeaders(hub, settings.data_dir / "headers"), level, lambda: _show(transfer))
    try:
        path = transfer.download_level()
    finally:
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
    if transfer.bytes_received:
        record_download(settings.data_dir, path)
    record = {
        "model": level.reference,
        "level": level.level,
        "path": str(path),
        "size": level.size,
        "received": transfer.bytes_received,
    }
    came = "It was here already." if not transfer.bytes_received else f"{gibibytes(transfer.bytes_received)} received."
    return Report(record, f"{level.reference} is at {path}: {gibibytes(level.size)}. {came}")


def _show(transfer: Transfer) -> None:
    """How far it is, on a terminal."""
    if sys.stderr.isatty():
        done, total = gibibytes_apart(transfer.bytes_done, transfer.level.size)
        share = percent(transfer.bytes_done / transfer.level.size)
        print(f"\r\033[K{transfer.stage} {share}, {done} of {total}", end="", file=sys.stderr, flush=True)
