"""The report on whole networks says what the folder holds, and a smaller budget is a prefix of a larger one."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from experiments import log, network_latency, network_latency_report
from experiments.memory import PeakMemory
from experiments.network_latency_report import Turns
from tests.tvm_bridge.record_strategies import record


@pytest.fixture
def folder(tmp_path):
    """Latencies of one network, with the tunings behind them."""
    network = tmp_path / "resnet-18"
    seconds = {"untuned": 2.0, "gausstune, 20": 0.01, "metaschedule, 20": 0.02, "pytorch": 0.03}
    turns = {"device": "a CPU, 2 threads", "timestamp": 1e9, "turn": 3, "tasks": 2}
    log.append(network / "latency.jsonl", {"what": "untuned", "seconds": [9.0]} | turns | {"timestamp": 1.0})  # of other turns
    log.append(network / "latency.jsonl", *({"what": what, "seconds": [each] * 3} | turns for what, each in seconds.items()))
    round_ = {"seconds_searching": 1.0, "seconds_measuring": 2.0, "trials": 10}
    log.append(network / "ours" / "rounds.jsonl", *[round_] * 6)
    log.append(network / "ours" / "calls.jsonl", {"trials": 120, "seconds": 18.0, "peak_bytes": 2_000_000_000})
    log.append(network / "metaschedule" / "batches.jsonl", *[{"trials": 20, "seconds": 12.0}] * 6)
    return tmp_path


def test_the_report_says_what_was_measured(folder, tmp_path):
    network_latency_report.write(folder, ["resnet-18"], tmp_path / "results")
    (turns,) = stored(tmp_path)
    assert [row.what for row in turns.rows] == ["untuned", "gausstune, 20", "metaschedule, 20", "pytorch"]
    ours = turns["gausstune, 20"]
    assert (ours.mean, ours.search, ours.measured) == (pytest.approx(0.01), 12.0, 40)  # four rounds of six
    text = (tmp_path / "results" / "network_latency.md").read_text()
    assert "## resnet-18, a CPU, 2 threads, turns of 3, 2001-09-09 01:46 UTC" in text
    # half the latency after half the time is an HV of 25, three times PyTorch's speed
    assert "| gausstune, 20 | 10.00 |" in text
    assert "| 3.00 | 12 | 40 | 2.00 | 25.0 |" in text


def stored(tmp_path):
    return [Turns.of(turns) for turns in json.loads((tmp_path / "results" / "network_latency.json").read_text())]


def test_turns_stay_in_the_report_until_others_tell_of_the_same_forms(folder, tmp_path):
    network_latency_report.write(folder, ["resnet-18"], tmp_path / "results")
    (first,) = stored(tmp_path)
    later = {"device": "a CPU, 2 threads", "timestamp": 2e9, "turn": 1, "tasks": 2}
    log.append(folder / "resnet-18" / "latency.jsonl", {"what": "pytorch", "seconds": [0.04]} | later)
    network_latency_report.write(folder, ["resnet-18"], tmp_path / "results")
    assert [len(turns.rows) for turns in stored(tmp_path)] == [4, 1]
    assert stored(tmp_path)[0] == first
    log.append(
        folder / "resnet-18" / "latency.jsonl",
        *[{"what": row.what, "seconds": [0.05]} | later | {"timestamp": 3e9} for row in first.rows],
    )
    network_latency_report.write(folder, ["resnet-18"], tmp_path / "results")
    (last,) = stored(tmp_path)
    assert (last.timestamp, len(last.rows)) == (3e9, 4)
    assert not last.replaces(replace(first, device="another CPU"))


def test_chosen_layouts_cost_both_tunings(folder, tmp_path):
    network = folder / "resnet-18"
    shutil.copytree(network / "ours", network / "nhwc")
    log.append(
        network / "latency.jsonl",
        {"what": "gausstune in chosen layouts, 20", "seconds": [0.01], "device": "", "timestamp": 2e9, "turn": 1, "tasks": 2},
    )
    network_latency_report.write(folder, ["resnet-18"], tmp_path / "results")
    row = stored(tmp_path)[0].rows[0]
    assert (row.search, row.measured, row.peak_bytes) == (24.0, 80, 2_000_000_000)


def test_a_report_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="do the stage 'latency' first"):
        network_latency_report.write(tmp_path, ["resnet-18"], tmp_path / "results")


def test_a_smaller_budget_is_a_prefix():
    records = [record(index) for index in (-1, 0, 1, 2, 3, 4)]
    first = network_latency.first_measurements(records, 3)
    assert [each.index for each in first] == [-1, 0, 1, 2]
    assert network_latency.first_measurements(records, 5) == records


def test_peak_memory_sees_what_was_there_for_a_moment():
    with PeakMemory(interval=0.01) as memory:
        before = memory.peak
        block = np.ones(20_000_000)
        while memory.peak < before + block.nbytes / 2:
            pass
    assert memory.peak > block.nbytes
