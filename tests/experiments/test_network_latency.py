"""Whole networks take turns, the report says what the folder holds, and a smaller budget is a prefix of a larger one."""

import json
import os
import shutil
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from tvm import relax

from experiments import log, network_latency, network_latency_report
from experiments.memory import PeakMemory
from experiments.network_latency_report import Turns
from tests.tvm_bridge.record_strategies import record, write_log
from tvm_bridge.measure.base import Measurement
from tvm_bridge.measure.process import Outcome
from tvm_bridge.network.extract import extract_tasks
from tvm_bridge.network.load import Network
from tvm_bridge.records import FOLDER_LOG, Record


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


def test_rounds_of_the_same_turns_are_one(tmp_path):
    first, second = ({"device": "", "timestamp": 1e9 + last, "began": 1e9, "turn": 1, "tasks": 2} for last in (1, 2))
    old = {"what": "untuned", "seconds": [9.0], "device": "", "timestamp": 2.0, "turn": 1, "tasks": 2}
    lines = [{"what": what, "seconds": [each]} for what, each in (("untuned", 3.0), ("pytorch", 1.0))]
    log.append(tmp_path / "latency.jsonl", old, *(line | turns for turns in (first, second) for line in lines))
    turns = network_latency_report.read(tmp_path, "small")
    assert turns.timestamp == 1e9 + 2
    assert [(row.what, row.mean, row.runs) for row in turns.rows] == [("untuned", 3.0, 2), ("pytorch", 1.0, 2)]


def test_a_gpu_has_a_report_of_its_own(folder, tmp_path):
    line = {"device": "a GPU", "timestamp": 2e9, "turn": 1, "tasks": 2, "target": "cuda -arch=sm_90", "seconds": [4.56e-4]}
    log.append(folder / "resnet-18" / "latency.jsonl", *({"what": what} | line for what in ("pytorch", "pytorch, TF32")))
    network_latency_report.write(folder, ["resnet-18"], tmp_path / "results", "cuda")
    text = (tmp_path / "results" / "network_latency_cuda.md").read_text()
    assert "# Whole networks on a GPU" in text
    assert "## resnet-18, a GPU, turns of 1" in text
    assert "Compiled for `cuda -arch=sm_90`." in text
    assert "| pytorch, TF32 | 0.456 |" in text
    assert not (tmp_path / "results" / "network_latency.md").exists()


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


def test_a_tuning_that_was_stopped_in_its_first_round_has_a_row(folder):
    (folder / "resnet-18" / "ours" / "rounds.jsonl").unlink()
    row = network_latency_report.read(folder / "resnet-18", "resnet-18")["gausstune, 20"]
    assert (row.search, row.measured) == (18.0, 0)


def test_a_smaller_budget_is_a_prefix():
    records = [record(index) for index in (-1, 0, 1, 2, 3, 4)]
    first = network_latency.first_measurements(records, 3)
    assert [each.index for each in first] == [-1, 0, 1, 2]
    assert network_latency.first_measurements(records, 5) == records


def one_convolution():
    """The smallest network that has a task."""
    builder = relax.BlockBuilder()
    data = relax.Var("data", relax.TensorType((1, 8, 4, 4), "float32"))
    with builder.function("main", [data]):
        with builder.dataflow():
            weight = relax.const(np.random.default_rng(0).normal(size=(8, 8, 1, 1)).astype("float32"))
            result = builder.emit_output(relax.op.nn.conv2d(data, weight))
        builder.emit_func_output(result)
    return Network(builder.get(), "small")


def test_networks_take_turns_once_and_a_part_of_a_budget_takes_part(tmp_path, monkeypatch):
    monkeypatch.setattr(network_latency, "load_network", lambda _: one_convolution())
    monkeypatch.setattr(network_latency_report, "pyplot", lambda _: None)
    (only,) = extract_tasks(one_convolution(), "llvm -num-cores=1").tasks
    task, space = only.task, only.task.space
    rows = space.sample(jax.random.key(0), 2)
    indices = map(int, space.to_index(rows))
    known = [
        Record(task.key, index, space.to_config(row), Measurement((1e-9,))) for index, row in zip(indices, rows, strict=True)
    ]
    folder = tmp_path / "out" / "1-threads" / "small"
    log.append(folder / "ours" / "rounds.jsonl", {"seconds_searching": 1.0, "seconds_measuring": 2.0, "trials": len(known)})
    write_log(folder / "ours" / FOLDER_LOG, known)
    places = ["--out", str(tmp_path / "out"), "--results", str(tmp_path / "results")]
    command = ["latency", "report", "--networks", "small", "--threads", "1", "--runs", "24", *places]
    assert network_latency.main(command) == 0
    (turns,) = stored(tmp_path)
    assert [(row.what, row.runs, row.measured) for row in turns.rows] == [
        ("untuned", 24, None),
        ("gausstune, 2", 24, len(known)),
    ]
    assert turns.target.startswith("llvm")
    before = (folder / "latency.jsonl").read_text()
    monkeypatch.setattr(network_latency, "compile_network", lambda *_, **__: None)  # nothing runs them again
    assert network_latency.main([each for each in command if each != "report"]) == 0
    assert (folder / "latency.jsonl").read_text() == before


def test_a_tuning_has_the_time_that_is_left_and_nothing_that_was_fitted_before(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(network_latency, "load_network", lambda _: one_convolution())
    monkeypatch.setattr(network_latency, "tune_network", lambda *_, **given: asked.append(given))
    command = ["tune", "--networks", "small", "--threads", "1", "--trials", "8", "--out", str(tmp_path)]
    assert network_latency.main(command) == 0
    assert network_latency.main([*command, "--minutes", "1"]) == 0
    assert [given["time_limit"] is None for given in asked] == [True, False]
    assert 0 < asked[1]["time_limit"] <= 60
    assert {given["pretrained"] for given in asked} == {False}
    now = iter([0.0])
    monkeypatch.setattr(network_latency, "time", SimpleNamespace(monotonic=lambda: next(now, 61.0)))
    assert network_latency.main([*command, "--minutes", "1"]) == 0
    assert len(asked) == 2
    assert "network_latency: time is over; the same command goes on" in capsys.readouterr().err


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="this machine has a GPU")
def test_without_a_gpu_its_stages_are_refused(tmp_path, capsys, monkeypatch):
    here = SimpleNamespace(call=lambda function, *arguments, limit: Outcome(function(*arguments)))
    monkeypatch.setattr(network_latency, "process", lambda _: nullcontext(here))
    assert network_latency.main(["tune", "--target", "cuda", "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("network_latency: --target: no device for cuda -arch=sm_80: there is none on this machine; run")
    assert not list(tmp_path.iterdir())


def test_tf32_is_refused_on_a_cpu(tmp_path, capsys):
    assert network_latency.main(["latency", "--torch-python", "python", "--torch-tf32", "--out", str(tmp_path)]) == 2
    assert "--torch-tf32: a CPU has no TF32; leave it out, or give --target cuda." in capsys.readouterr().err


def test_peak_memory_sees_what_was_there_for_a_moment():
    with PeakMemory(interval=0.01) as memory:
        before = memory.peak
        block = np.ones(20_000_000)
        while memory.peak < before + block.nbytes / 2:
            pass
    assert memory.peak > block.nbytes
