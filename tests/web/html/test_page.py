"""What a person notices of the page's parts: words, figures, escaping."""

from __future__ import annotations

import re

import pytest

from playground.app.messages import WorkProgress
from playground.errors import DoesNotFit, HubUnreachable
from playground.llama.devices import Device, Devices
from playground.machine.cpus import Processors
from playground.machine.memory import MachineMemory
from playground.web.html.page import empty_state, error_card, machine_strip, notice, page_head, progress_bar

MB, GB = 10**6, 10**9
EVIL = "<img src=x onerror=alert(1)>\"'`${x}"


def text_of(markup: str) -> str:
    """What is left for the eye: no tags, spaces joined."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", markup)).strip()


def test_the_strip_says_what_this_computer_has_and_what_limits_it() -> None:
    memory = MachineMemory(int(16.7 * GB), int(13.4 * GB), None, "this computer's memory")
    cores = Processors(2, 2, 2, 2, None, "this computer's cores")
    strip = machine_strip(memory, cores, Devices(()))
    assert text_of(strip) == "This computer 13.4 GB usable of 16.7 GB · 2 cores"
    assert 'title="12.5 GiB of 15.6 GiB, limited by this computer&#39;s memory. ' in strip
    assert 'this is a computer with 16 GB."' in strip
    assert "GGUF playground" in text_of(page_head(memory, cores, Devices(())))


def test_the_strip_names_each_gpu_before_the_ram() -> None:
    memory = MachineMemory(int(31.2 * GB), int(22.1 * GB), None, "this computer's memory")
    cores = Processors(8, 8, 16, 16, None, "this computer's cores")
    card = Device("CUDA0", "NVIDIA GeForce RTX 4070", "CUDA", "GPU", 12 * GB, int(10.9 * GB), unified=False)
    strip = machine_strip(memory, cores, Devices((card,)))
    assert text_of(strip) == (
        "NVIDIA GeForce RTX 4070 10.9 GB free of 12.0 GB · RAM 22.1 GB usable of 31.2 GB · 8 cores"
    )


def test_a_driver_that_failed_is_named_below_the_strip() -> None:
    memory = MachineMemory(5 * GB, 4 * GB, None, "this computer's memory")
    assert "is sold" not in machine_strip(memory, Processors(2, 2, 2, 2, None, ""), Devices(()))  # not as 5 GB
    cores = Processors(2, 2, 2, 2, None, "this computer's cores")
    problem = f"The driver of {EVIL} did not answer."
    head = page_head(memory, cores, Devices((), problem))
    assert "did not answer." in text_of(head) and "<img" not in head


@pytest.mark.parametrize(
    "markup",
    [
        error_card(DoesNotFit(EVIL, EVIL)),
        error_card(EVIL),
        notice(EVIL),
        empty_state(EVIL, EVIL),
        progress_bar(WorkProgress(EVIL, 0.5)),
    ],
)
def test_what_comes_from_a_file_or_a_model_is_never_markup(markup: str) -> None:
    assert "<img" not in markup
    assert not re.search(r'="[^"<>]*<', markup)


def test_an_error_says_what_is_wrong_and_then_what_to_do() -> None:
    card = error_card(DoesNotFit("It needs 9.10 GB, 8.00 GB are usable.", "Q4_K_M fits."))
    assert text_of(card) == "It needs 9.10 GB, 8.00 GB are usable. Q4_K_M fits."
    assert 'role="alert"' in card


def test_that_there_is_no_network_is_no_alarm() -> None:
    card = error_card(HubUnreachable("No connection to the Hub.", "Models on this computer work offline."))
    assert text_of(card) == "No connection to the Hub. Models on this computer work offline."
    assert "gp-error" not in card and 'role="alert"' not in card


def test_a_load_shows_its_stage_and_its_share() -> None:
    progress = progress_bar(WorkProgress("Loading SmolLM2 135M · Q4_1", 0.43))
    assert text_of(progress) == "Loading SmolLM2 135M · Q4_1 43%"
    assert 'aria-valuenow="43"' in progress
    assert "aria-valuenow" not in progress_bar(WorkProgress("Making room"))
