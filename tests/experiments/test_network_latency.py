"""The report on whole networks says what the folder holds, and a smaller budget is a prefix of a larger one."""

import json

import numpy as np
import pytest

from experiments import log, network_latency, network_latency_report
from experiments.memory import PeakMemory
from tests.tvm_bridge.record_strategies import record


@pytest.fixture
def folder(tmp_path):
    """Latencies of one network, with the tunings behind them."""
    network = tmp_path / "resnet-18"
    seconds = {"untuned": 2.0, "gausstune, 20": 0.01, "metaschedule, 20": 0.02, "pytorch": 0.03}
    log.append(network / "latency.jsonl", *({"what": what, "seconds": [each] * 3} for what, each in seconds.items()))
    round_ = {"seconds_searching": 1.0, "seconds_measuring": 2.0, "trials": 10}
    log.append(network / "ours" / "rounds.jsonl", *[round_] * 6)
    (network / "ours" / "network.json").write_text(json.dumps({"tasks": [{}, {}]}))
    log.append(network / "ours" / "calls.jsonl", {"trials": 120, "seconds": 18.0, "peak_bytes": 2_000_000_000})
    log.append(network / "metaschedule" / "batches.jsonl", *[{"trials": 20, "seconds": 12.0}] * 6)
    return tmp_path


def test_the_report_says_what_was_measured(folder, tmp_path):
    network_latency_report.write(folder, ["resnet-18"], tmp_path / "results")
    rows = json.loads((tmp_path / "results" / "network_latency.json").read_text())
    ours = next(row for row in rows if row["what"] == "gausstune, 20")
    assert (ours["mean"], ours["search"], ours["measured"]) == (pytest.approx(0.01), 12.0, 40)  # four rounds of six
    text = (tmp_path / "results" / "network_latency.md").read_text()
    # half the latency after half the time is an HV of 25, three times PyTorch's speed
    assert "| resnet-18 | gausstune, 20 | 10.00 |" in text
    assert "| 3.00 | 12 | 40 | 2.00 | 25.0 |" in text


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
