"""The report counts what was recorded: failures, refusals, noise, clocks, and what shared memory would add."""

import json
from dataclasses import replace

import jax
import pytest

from experiments import log, record_report
from experiments.layer_recording import Logs
from tvm_bridge import networks
from tvm_bridge.measure.base import ErrorCategory, Measurement
from tvm_bridge.records import Record
from tvm_bridge.target import Target
from tvm_bridge.task import task_of

LAUNCH = "InternalError: CUDALaunch Error: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES grid=(1,1,1), block=(1024,1,1)"
CRASH = "RuntimeError: CUDA Runtime Error: cudaErrorIllegalAddress (700): an illegal memory access was encountered"
PTXAS = "RuntimeError: ptxas error : Entry function 'main_kernel' uses too much shared data (0x10000 bytes, 0xc000 max)"
OUTCOMES = [
    (),
    (ErrorCategory.RUNTIME_DEVICE, LAUNCH),
    (ErrorCategory.RUNTIME_DEVICE, CRASH),
    (),
    (ErrorCategory.BUILD_TIMEOUT, ""),
]
STATE = {"name": "A card", "driver": "570.1", "cuda": "12.8", "performance_state": "P0", "memory_mhz": 3201, "watts": None}


def measured(outcome, seconds=1e-3):
    return Measurement((), *outcome, device="a card") if outcome else Measurement((seconds,), device="a card")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two layers on one GPU, each with TVM's default schedule and five configurations; of the first, noise too."""
    monkeypatch.setattr(record_report, "DRAWN", 1 << 10)
    target, logs = Target.parse("cuda -arch=sm_90").resolve(), Logs(tmp_path / "records")
    for layer in networks.layers("alexnet")[:2]:
        task = task_of(replace(layer.workload, layout="NHWC"), target)
        logs["alexnet-nhwc"].append(Record(task.key, -1, None, measured(())))
        rows = task.space.sample(jax.random.key(0), len(OUTCOMES))
        records = [
            Record(task.key, task.space.to_index(row), task.space.to_config(row), measured(outcome))
            for row, outcome in zip(rows, OUTCOMES, strict=True)
        ]
        for record in records:
            logs["alexnet-nhwc"].append(record)
        if layer.name == "conv5":
            for seconds in (1.1e-3, 0.9e-3):
                logs["noise/alexnet-nhwc"].append(replace(records[0], measurement=measured((), seconds)))
        logs["refused/alexnet-nhwc"].append(replace(records[0], measurement=measured((ErrorCategory.COMPILE_DEVICE, PTXAS))))
    logs["refused/alexnet-nhwc"].append(records[1])
    logs["refused/alexnet-nhwc"].append(records[3])
    logs.close()
    for moment, clock in (("start", 345), ("again", 1980), ("again", 1900), ("end", 1980)):
        log.append(tmp_path / "records" / "device.jsonl", STATE | {"moment": moment, "sm_mhz": clock, "celsius": 40})
    log.append(tmp_path / "records" / "device.jsonl", {"moment": "start", "unknown": "no driver"})
    return tmp_path / "records"


def test_everything_recorded_is_counted(folder, tmp_path):
    assert record_report.main([str(folder), "--results", str(tmp_path)]) == 0
    stored = json.loads((tmp_path / "records.json").read_text())
    summary = stored["logs"]["alexnet-nhwc"]
    assert (summary["layers"], summary["configurations"], summary["defaults_failed"]) == (2, 10, 0)
    assert summary["failures"] == {"RUNTIME_DEVICE": 4, "BUILD_TIMEOUT": 2}
    assert (summary["device_refuses"], summary["words"]) == (2, [[LAUNCH, 2]])
    assert (summary["against_predicate"], summary["refused_by_both"], summary["works_against_predicate"]) == (4, 3, 1)
    assert 0 < summary["predicate_refuses"] < 0.2
    (noise,) = stored["noise"]["alexnet-nhwc"]
    assert noise["seconds"] == [1e-3, 1.1e-3, 0.9e-3]
    assert noise["deviation"] == pytest.approx(0.1)
    assert noise["drift"] == pytest.approx(-0.1)
    assert stored["states"]["again"]["sm_mhz"] == [1900, 1940, 1980]
    assert "watts" not in stored["states"]["again"]
    (spaces,) = stored["shared_memory"].values()
    assert [space["size"] for space in spaces["alexnet-nhwc"]] == [1296, 1296]


def test_report_reads_as_sentences_and_tables(folder, tmp_path):
    record_report.main([str(folder), "--results", str(tmp_path)])
    text = (tmp_path / "records.md").read_text()
    for part in (
        "# Records of a card",
        "| alexnet-nhwc | 2 | 10 | 60.0% | 2 BUILD_TIMEOUT, 4 RUNTIME_DEVICE | ",
        f"the device refused 2:\n\n- 2 times: {LAUNCH}",
        "Of 4 configurations that the predicates refuse, built and run all the same, the device refused 3; 1 worked.",
        "Relative standard deviation: 10.0% on the median layer",
        "| 2 | 1 | 0.900 |",
        "A card, driver 570.1, CUDA 12.8.",
        "| again | P0 | 1900 / 1940 / 1980 | 3201 / 3201 / 3201 | 40 / 40 / 40 |  |",
        "launchable with 48 KB | with 227 KB",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("error", "message", "answer"),
    [
        (ErrorCategory.INSTANTIATION, "no such loop", True),
        (ErrorCategory.COMPILE_DEVICE, PTXAS, True),
        (ErrorCategory.RUNTIME_DEVICE, LAUNCH, True),
        (ErrorCategory.RUNTIME_DEVICE, CRASH, False),
        (ErrorCategory.RUN_TIMEOUT, "stopped after 10 s", False),
    ],
)
def test_only_what_cannot_be_launched_is_refused(error, message, answer):
    assert record_report.refused(Measurement((), error, message)) == answer


def test_nothing_recorded_is_one_line(tmp_path, capsys):
    assert record_report.main([str(tmp_path), "--results", str(tmp_path / "results")]) == 2
    assert capsys.readouterr().err.startswith(f"record_report: {tmp_path} holds no records yet; first run `python -m")
    assert not (tmp_path / "results").exists()
