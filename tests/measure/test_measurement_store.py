"""Measurements on the disk: kept, exported and read back; a damaged, read-only or full disk becomes a sentence."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from playground.errors import PlaygroundError, RequestRefused
from playground.measure.export import export_csv, export_json, export_markdown, read_export
from playground.measure.plan import MeasurementPlan
from playground.measure.results import Measurement, What, efficient_frontier, result_rows
from playground.measure.store import MeasurementStore
from playground.web.html.measure.picture import picture
from playground.web.html.measure.results import table

GIB = 1 << 30
PLAN = MeasurementPlan("Fox-1B", ("Q8_0", "Q4_0"), ("fidelity", "speed"), reference="Q8_0")


def measured(level: str, size: float, divergence: float, what: What = "fidelity", **figures: Any) -> Measurement:
    return Measurement(
        what=what, model="Fox-1B", level=level, file=f"Fox-1B-{level}.gguf", size=round(size * GIB),
        bits_per_weight=4.5, digest=level * 8, k_type="f16", v_type="f16", device="CPU", layers=None, threads=2,
        settings={}, text="six texts", text_digest="t",
        reference="Q8_0", reference_digest="Q8_0" * 8, versions={"playground": "1"},
        measured_at="2026-11-30T12:00:00+00:00", seconds=1.5, figures={"kl_divergence": divergence, **figures},
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> MeasurementStore:
    return MeasurementStore(tmp_path / "measurements.sqlite")


def test_what_was_measured_is_read_back_unchanged(store: MeasurementStore) -> None:
    found = replace(measured("Q4_0", 0.5, 0.02), details=[{"task": 1, "passed": True}])
    store.add_measurement(found)
    assert store.measurements() == [found]


def test_a_run_keeps_what_is_finished_and_what_failed(store: MeasurementStore) -> None:
    run = store.add_run(PLAN.to_json(), "")
    first, second, *_ = PLAN.items()
    store.finish_item(run, first.key, measured("Q8_0", 1, 0))
    store.finish_item(run, second.key, "Its process ended.")
    stored = store.find_run(run)
    assert stored and stored.finished == {first.key: "", second.key: "Its process ended."}
    assert MeasurementPlan.from_json(stored.plan) == PLAN and stored.state == "queued"
    store.set_run_state(run, "stopped")
    assert store.unfinished_run(PLAN.to_json()) == run
    store.retry_failed_items(run)
    stored = store.find_run(run)
    assert stored and stored.finished == {first.key: ""}


def test_a_damaged_file_is_set_aside_and_said_so(store: MeasurementStore) -> None:
    store.path.write_bytes(b"no database at all" * 100)
    with pytest.raises(PlaygroundError, match="was damaged"):
        store.measurements()
    assert "was damaged" in store.set_aside and store.measurements() == []


def test_a_place_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PlaygroundError, match="could not be kept"):
        MeasurementStore(tmp_path / "file" / "measurements.sqlite").add_measurement(measured("Q4_0", 0.5, 0.02))


def test_a_full_store_says_what_to_do(tmp_path: Path) -> None:
    store = MeasurementStore(tmp_path / "measurements.sqlite", most=1)
    store.add_measurement(measured("Q4_0", 0.5, 0.02))
    with pytest.raises(RequestRefused, match="Export them"):
        store.add_measurement(measured("Q4_0", 0.5, 0.02))


def test_the_frontier_has_what_no_other_level_beats() -> None:
    levels = [("A", 1.0, 0.0), ("B", 0.7, 0.01), ("C", 0.8, 0.02), ("D", 0.5, 0.3), ("E", 0.5, 0.2), ("F", 0.9, 0.01)]
    rows = result_rows([measured(*level) for level in levels])
    frontier = [row.key.level for row in efficient_frontier(rows)]
    assert frontier == ["E", "B", "A"]
    for row in rows:
        beaten = any(
            other.size <= row.size and (other.divergence or 0) <= (row.divergence or 0)
            and (other.size, other.divergence) != (row.size, row.divergence) for other in rows
        )  # fmt: skip
        assert beaten == (row.key.level not in frontier)


def test_the_newest_measurement_of_a_kind_counts() -> None:
    (row,) = result_rows([measured("Q4_0", 0.5, 0.5), measured("Q4_0", 0.5, 0.1), measured("Q4_0", 0.5, 0, "speed")])
    assert row.divergence == 0.1 and set(row.by_what) == {"fidelity", "speed"}


def test_a_level_that_ran_on_two_devices_has_a_row_for_each() -> None:
    fidelity, on_cpu = measured("Q4_0", 0.5, 0.1), measured("Q4_0", 0.5, 0, "speed", tg_tokens_per_second=9.0)
    on_gpu = replace(measured("Q4_0", 0.5, 0, "speed", tg_tokens_per_second=90.0), device="CUDA0")
    (alone,) = result_rows([fidelity, on_cpu])
    assert (alone.key.name, alone.speed) == ("Q4_0", 9.0)
    rows = result_rows([fidelity, on_cpu, on_gpu, on_cpu])
    assert [(row.key.name, row.speed, row.divergence) for row in rows] == [
        ("Q4_0 · CPU", 9.0, 0.1), ("Q4_0 · CUDA0", 90.0, 0.1),
    ]  # fmt: skip
    drawn = str(picture(rows, GIB))
    assert drawn.count("<circle") == drawn.count("<svg") and "Q4_0 · CUDA0" in drawn
    assert str(table(rows)).count(">efficient<") == 2
    lines = list(csv.DictReader(io.StringIO(export_csv(rows))))
    assert [(line["device"], line["tg_tokens_per_second"]) for line in lines] == [("CPU", "9.0"), ("CUDA0", "90.0")]


def test_an_export_is_read_back_under_the_name_of_its_file(store: MeasurementStore) -> None:
    rows = result_rows([measured("Q4_0", 0.5, 0.02), measured("Q8_0", 1, 0.0)])
    data = json.dumps(export_json(rows)).encode()
    imported = read_export(data, "a friend")
    assert {each.source for each in imported} == {"a friend"} and len(imported) == 2
    store.add_import("a friend", imported)
    store.add_import("a friend", imported)
    assert len(store.measurements()) == 2
    store.remove_source("a friend")
    assert store.measurements() == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[1]",
        b"{}",
        b"[" * 100_000,
        b'{"format": "gguf-playground measurements", "measurements": [{"what": "x"}]}',
    ],
)
def test_a_file_that_is_no_export_is_refused(data: bytes) -> None:
    with pytest.raises(RequestRefused):
        read_export(data, "a stranger")


@pytest.mark.parametrize(
    "wrong",
    [
        {"figures": {"kl_divergence": float("nan")}},
        {"figures": {"kl_divergence": 10**400}},
        {"figures": {"categories": "code"}},
        {"figures": {"categories": [{"category": "code", "tokens": 9}]}},
        {"size": 1 << 70},
        {"model": "x" * 5000},
        {"level": "\ud83d"},
    ],
)
def test_a_measurement_with_a_wrong_field_is_refused(wrong: dict[str, Any]) -> None:
    record = export_json(result_rows([measured("Q4_0", 0.5, 0.02)]))
    record["measurements"][0] |= wrong
    with pytest.raises(RequestRefused):
        read_export(json.dumps(record).encode(), "a stranger")


def test_what_a_stranger_calls_a_task_is_left_out_where_it_has_no_number() -> None:
    record = export_json(result_rows([measured("Q4_0", 0.5, 0.02)]))
    record["measurements"][0]["details"] = [{"task": 2}, {"task": "x"}, {"passed": True}, "text"]
    assert read_export(json.dumps(record).encode(), "a stranger")[0].details == [{"task": 2}]


def test_csv_and_markdown_have_every_level_and_no_formula() -> None:
    rows = result_rows([measured("=1+1", 0.5, 0.02, kl_divergence_error=0.001, perplexity=12.5)])
    (line,) = csv.DictReader(io.StringIO(export_csv(rows)))
    assert line["level"] == "'=1+1" and float(line["kl_divergence"]) == 0.02 and line["tg_tokens_per_second"] == ""
    assert (line["reference"], line["text"], line["device"]) == ("Q8_0", "six texts", "") and line["file_sha256"]
    text = export_markdown(rows)
    assert "| Fox-1B | =1+1 |" in text and "0.0200 ± 0.0010" in text and "against Fox-1B Q8_0 over six texts" in text


def test_csv_and_markdown_have_the_interval_of_a_score_and_mark_a_disturbed_speed() -> None:
    tools = {"passed": 38, "items": 43, "interval_low": 0.755, "interval_high": 0.949}
    speed = {"tg_tokens_per_second": 20.0, "tg_deviation": 2.5, "tg_disturbed": True}
    rows = result_rows([measured("Q4_0", 0.5, 0, "tools", **tools), measured("Q4_0", 0.5, 0, "speed", **speed)])
    (line,) = csv.DictReader(io.StringIO(export_csv(rows)))
    assert (line["tools_interval_low"], line["tools_interval_high"], line["tg_disturbed"]) == ("0.755", "0.949", "yes")
    text = export_markdown(rows)
    assert "38 of 43 (76% to 95%)" in text and "20.0 ± 2.5 (disturbed)" in text


def test_every_export_and_the_table_have_the_figures_of_each_kind_of_text() -> None:
    of_code = {
        "category": "code", "tokens": 800, "perplexity": 7.25, "perplexity_error": 0.5, "kl_divergence": 0.03,
        "kl_divergence_error": 0.002, "top_token_agreement": 0.91, "top_token_agreement_error": "=1+1",
    }  # fmt: skip
    rows = result_rows([measured("Q4_0", 0.5, 0.02, categories=[of_code, {**of_code, "category": "=science"}])])
    (line,) = csv.DictReader(io.StringIO(export_csv(rows)))
    assert (line["kl_divergence_of_code"], line["kl_divergence_error_of_=science"]) == ("0.03", "0.002")
    assert line["top_token_agreement_error_of_code"] == ""
    assert "| Fox-1B Q4_0 | 0.0300 ± 0.0020 | 0.0300 ± 0.0020 |" in export_markdown(rows)
    shown = str(table(rows))
    assert "<td>code</td><td>800</td><td>7.250 ± 0.500</td><td>0.0300 ± 0.0020</td><td>91.0%</td>" in shown
