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
    from playground.models.file_records import note_downloaded
    from playground.models.hub.client import HubClient
    from playground.models.hub.headers import HubHeaders
    from playground.models.hub.names import parse_reference
    from playground.models.hub.transfer import Transfer

    hub = HubClient()
    meant = parse_reference(arguments.model, hub.endpoint)
    level = hub.fetch_repository(meant.repo).resolve_level(meant.level, path=meant.path)
    delivery = Transfer(hub, HubHeaders(hub, settings.data_dir / "headers"), level, lambda: _show(delivery))
    try:
        path = delivery.download_level()
    finally:
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
    if delivery.bytes_received:
        note_downloaded(settings.data_dir, path)
    record = {
        "model": level.reference,
        "level": level.level,
        "path": str(path),
        "size": level.size,
        "received": delivery.bytes_received,
    }
    came = "It was here already." if not delivery.bytes_received else f"{gibibytes(delivery.bytes_received)} received."
    return Report(record, f"{level.reference} is at {path}: {gibibytes(level.size)}. {came}")


def _show(delivery: Transfer) -> None:
    """How far it is, on a terminal."""
    if sys.stderr.isatty():
        done, total = gibibytes_apart(delivery.bytes_done, delivery.level.size)
        share = percent(delivery.bytes_done / delivery.level.size)
        print(f"\r\033[K{delivery.stage} {share}, {done} of {total}", end="", file=sys.stderr, flush=True)
