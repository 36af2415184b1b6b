"""Forecasts come from the processor's measured speeds, learn from models that ran here, and yield to a measurement."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from playground.engine.local.cpu_shares import CpuShares
from playground.engine.local.pool import ModelPool
from playground.engine.protocol import Finished, ReplyRequest
from playground.fit.planner import Planner
from playground.gguf.tensors import TensorType
from playground.gguf.weight_use import TokenWork
from playground.llama.kernel_speed import measure_kernels
from playground.llama.params import ContextParameters
from playground.llama.sampling_extras import GREEDY
from playground.measure.forecast import Forecast, SpeedForecaster
from playground.steps import Steps

GB = 10**9
SPEEDS = {TensorType.Q4_K: 40.0 * GB, TensorType.Q8_0: 40.0 * GB, TensorType.Q2_0: 1.0 * GB}


def of_table(threads: int, types: Sequence[TensorType]) -> dict[TensorType, float]:
    return {kind: SPEEDS[kind] for kind in types if kind in SPEEDS}


def work(kind: TensorType, gigabytes: float) -> TokenWork:
    return TokenWork({kind: gigabytes * GB}, layers=28, vocabulary_size=150_000)


@pytest.fixture
def forecaster(tmp_path: Path) -> SpeedForecaster:
    return SpeedForecaster(tmp_path / "speeds.json", threads=2, measure=of_table)


def known(forecast: Forecast | None) -> Forecast:
    assert forecast is not None
    return forecast


def reply(forecaster: SpeedForecaster, path: Path, speed: float, *, tokens: int = 64, device: str = "CPU") -> None:
    forecaster.record_reply(path, device, 2, tokens, 100, speed)


def test_half_the_bytes_are_nearly_twice_as_fast(forecaster: SpeedForecaster) -> None:
    large = known(forecaster.forecast(work(TensorType.Q8_0, 4), wait=True))
    small = known(forecaster.forecast(work(TensorType.Q4_K, 2), wait=True))
    assert 1.8 < small.middle / large.middle < 2
    assert large.low < 40 / 4 < large.high
    assert large.basis == "memory bandwidth"


def test_a_level_without_a_fast_kernel_is_slower_than_a_larger_one(forecaster: SpeedForecaster) -> None:
    slow = known(forecaster.forecast(work(TensorType.Q2_0, 1), wait=True))
    assert slow.high < known(forecaster.forecast(work(TensorType.Q8_0, 4), wait=True)).low


def test_a_type_that_cannot_be_measured_has_no_forecast(forecaster: SpeedForecaster) -> None:
    assert forecaster.forecast(work(TensorType.IQ1_S, 1), wait=True) is None


def test_a_measurement_takes_the_place_of_the_forecast(forecaster: SpeedForecaster, starter: Path) -> None:
    for speed in (100.0, 104.0, 90.0):
        reply(forecaster, starter, speed)
    measured = known(forecaster.forecast_file(starter))
    assert (measured.low, measured.high, measured.text) == (100.0, 100.0, "100 tok/s measured here")
    again = SpeedForecaster(forecaster._record, threads=2, measure=of_table)  # after a restart
    assert known(again.forecast_file(starter)).low == 100.0


def test_short_and_cramped_replies_are_not_counted(forecaster: SpeedForecaster, starter: Path) -> None:
    reply(forecaster, starter, 100.0, tokens=8)
    forecaster.record_reply(starter, "CPU", 1, 64, 100, 50.0)  # with half of the cores
    forecaster.record_reply(starter, "CPU", 2, 64, 30_000, 50.0)  # after a book
    assert forecaster.accuracy().measured == 0
    assert known(forecaster.forecast_file(starter, wait=True) or Forecast(1, 1, "memory bandwidth")).basis != "measured"


def test_a_slower_computer_than_computed_corrects_other_forecasts(tmp_path: Path, starter: Path) -> None:
    forecaster = SpeedForecaster(tmp_path / "speeds.json", threads=2, measure=measure_kernels)
    before = known(forecaster.forecast_file(starter, wait=True))
    other = TokenWork({kind: 2 * size for kind, size in known_work(forecaster, starter).bytes_by_type.items()}, 30, 0)
    unknown = known(forecaster.forecast(other))
    reply(forecaster, starter, before.middle / 3)
    corrected = known(forecaster.forecast(other))
    assert corrected.basis == "measured models"
    assert 2.5 < unknown.middle / corrected.middle < 3.5
    assert corrected.high / corrected.low < unknown.high / unknown.low
    assert (forecaster.accuracy().within, forecaster.accuracy().measured) == (0, 1)


def known_work(forecaster: SpeedForecaster, path: Path) -> TokenWork:
    found = forecaster.work_of_file(path)
    assert found is not None
    return found


def test_a_gpu_is_unknown_until_a_model_has_run_there(forecaster: SpeedForecaster, starter: Path) -> None:
    twice = TokenWork({TensorType.Q4_K: 2 * known_work(forecaster, starter).read_bytes}, 30, 0)
    assert forecaster.forecast(twice, "CUDA0") is None
    reply(forecaster, starter, 800.0, device="CUDA0")
    found = known(forecaster.forecast(twice, "CUDA0"))
    assert found.low < 400 < found.high
    assert forecaster.forecast(twice, "CUDA1") is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', '{"a": {"runs": [-1], "bytes_by_type": {}}}', "\x00"])
def test_a_damaged_record_counts_as_none(tmp_path: Path, starter: Path, content: str) -> None:
    (tmp_path / "speeds.json").write_text(content)
    forecaster = SpeedForecaster(tmp_path / "speeds.json", threads=2, measure=of_table)
    reply(forecaster, starter, 100.0)
    assert known(forecaster.forecast_file(starter)).low == 100.0
    assert json.loads((tmp_path / "speeds.json").read_text())


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (9.2, 12.3, "about 9 to 12 tok/s here"),
        (181.4, 278.2, "about 180 to 280 tok/s here"),
        (1.24, 2.06, "about 1.2 to 2.1 tok/s here"),
        (7.9, 8.1, "about 8 tok/s here"),
    ],
)
def test_a_band_is_told_with_two_digits(low: float, high: float, text: str) -> None:
    assert Forecast(low, high, "memory bandwidth").text == text


def test_the_processor_is_measured_and_an_impossible_type_is_missing() -> None:
    found = measure_kernels(2, [TensorType.Q8_0, TensorType.Q2_0, TensorType.I64])
    assert set(found) >= {TensorType.Q8_0, TensorType.Q2_0}
    assert all(speed > 0 for speed in found.values())


def test_a_reply_that_was_alone_is_reported_and_others_are_not(starter: Path) -> None:
    reported: list[int | None] = []
    cores = CpuShares(1)
    with Planner() as planner:
        pool = ModelPool(cores, planner, lambda: 4 << 30, on_reply=lambda _, timings: reported.append(timings.threads))
        with Steps(pool.lease_model(starter, ContextParameters(1024, slots=2))).finish() as lease:
            alone = list(lease.engine.start_reply(ReplyRequest("Once", GREEDY, max_tokens=4)))
            both = [lease.engine.start_reply(ReplyRequest(prompt, GREEDY, max_tokens=24)) for prompt in ("One", "Two")]
            ends = [event for stream in both for event in stream if isinstance(event, Finished)]
        pool.close()
    cores.close()
    assert isinstance(alone[-1], Finished)
    assert len(ends) == 2
    assert reported == [1]
