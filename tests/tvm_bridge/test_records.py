"""Records: a line of a log and what it means, in AutoTVM's spelling and in ours."""

import gzip
import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from tests.records_folder import RECORDS, needs_records
from tests.tvm_bridge import record_strategies as made
from tests.tvm_bridge.record_strategies import RTX, SMALL, as_logged, record, small_task, write_log
from tvm_bridge.convolution import Conv2d
from tvm_bridge.measure.base import ErrorCategory
from tvm_bridge.records import DEFAULT_INDEX, Record, TaskKey, best_records, read_records
from tvm_bridge.target import Target

LAW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
plain_or_gzip = pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz"])


# One line


@LAW
@given(made.records)
def test_record_round_trip(written):
    line = written.to_json()
    assert "\n" not in line
    read = Record.from_json(line)
    assert read == as_logged(written)
    assert read.to_json() == line


def test_caches_stand_beside_a_target_that_tvm_reads():
    line = record(task=small_task(target=Target.parse("llvm -mcpu=znver4 -cache-bytes=32768,1048576"))).to_json()
    assert json.loads(line)["input"][0] == "llvm -mcpu=znver4"
    assert Record.from_json(line).key.target.caches == (32768, 1048576)
    with pytest.raises(ValueError, match=r"not a record of a measurement .*cache-bytes: \[0\] must be whole numbers"):
        Record.from_json(line.replace("[32768,1048576]", "[0]"))


def without_spelling(line):
    """What a line means: the target's words and the version of TVM left out, the arguments in one spelling."""
    fields = json.loads(line)
    target, name, args, options = fields["input"]
    operator, kind = name.split(".")
    fields["input"] = [Target.parse(target), operator, kind, Conv2d.from_args(operator, args), options]
    return fields | {"tvm_version": None}


@pytest.mark.parametrize("line", [made.AUTOTVM_LINE])
def test_autotvm_line_is_written_back(line):
    assert without_spelling(Record.from_json(line).to_json()) == without_spelling(line)


@needs_records
@pytest.mark.parametrize("device", ["gtx1650", "rtx3080", "v100"])
def test_every_recorded_line_is_written_back(device):
    assert RECORDS is not None
    for path in sorted((RECORDS / "autotvm" / device).glob("*/*.jsonl.gz")):
        with gzip.open(path) as lines:
            for line in lines:
                record, fields = Record.from_json(line), json.loads(line)
                written = json.loads(record.to_json())
                task, logged = written.pop("input"), fields.pop("input")
                assert written | {"tvm_version": fields["tvm_version"]} == fields
                assert (task[1], task[3]) == (logged[1], logged[3])
                assert task[2] == logged[2] or logged[2][3] in ("SAME", "VALID")


def test_own_line_has_exactly_the_fields_of_autotvm():
    """The device and a failure's message are the two fields that AutoTVM ignores; they are left out where unknown."""
    ours, autotvm = json.loads(record().to_json()), json.loads(made.AUTOTVM_LINE)
    assert list(ours) == list(autotvm)
    assert list(ours["config"]) == list(autotvm["config"])
    assert [type(field) for field in ours["input"]] == [type(field) for field in autotvm["input"]]
    assert [type(field) for field in ours["result"]] == [type(field) for field in autotvm["result"]]
    assert ours["version"] == autotvm["version"]
    extra = json.loads(record(0, None, device="a GPU", message="it hung").to_json())
    assert set(extra) - set(autotvm) == {"device", "message"}


def test_failure_is_logged_as_a_billion_seconds():
    line = record(3, None, error=ErrorCategory.RUN_TIMEOUT, message="stopped after 10 s", device="a GPU").to_json()
    assert json.loads(line)["result"][:2] == [[1e9], 7]
    read = Record.from_json(line).measurement
    assert (read.ok, read.cost, read.seconds) == (False, float("inf"), ())
    assert (read.message, read.device) == ("stopped after 10 s", "a GPU")


@pytest.mark.parametrize(
    "entity",
    [
        ["order", "re", [2, 0, 1]],
        ["annotate", "an", ["unroll", "vec"]],
        ["layout", "ot", "NCHW"],
        ["nothing", "ot", None],
    ],
    ids=lambda entity: f"{entity[1]}-{entity[2]}",
)
def test_other_kinds_of_knobs_are_written_back(entity):
    fields = json.loads(made.AUTOTVM_LINE)
    fields["config"]["entity"].append(entity)
    assert json.loads(Record.from_json(json.dumps(fields)).to_json())["config"] == fields["config"]


@pytest.mark.parametrize("name", ["conv2d_nchw_spatial_pack.arm_cpu", "dense_nopack.x86", "matmul"])
def test_other_task_names_are_written_back(name):
    """AutoTVM names a template by the folder it lies in, which is not always the kind of its target."""
    fields = json.loads(made.AUTOTVM_LINE)
    fields["input"][:2] = ["llvm -mcpu=znver4", name]
    assert json.loads(Record.from_json(json.dumps(fields)).to_json())["input"][:2] == fields["input"][:2]


DAMAGED = {
    "nothing": "",
    "a list": "[]",
    "null": "null",
    "half": made.AUTOTVM_LINE[:-1],
    "deep": "[" * 100_000,
    "no config": made.AUTOTVM_LINE.replace('"config"', '"konfig"'),
    "no timestamp": made.AUTOTVM_LINE.replace(", 1650000000.0", ""),
    "unknown error": made.AUTOTVM_LINE.replace("[0.0089085], 0,", "[1e9], 9,"),
    "neither time nor error": made.AUTOTVM_LINE.replace("[0.0089085], 0,", "[], 0,"),
    "no time": made.AUTOTVM_LINE.replace("0.0089085", "0.0"),
    "a negative time": made.AUTOTVM_LINE.replace("0.0089085", "-0.0089085"),
    "no number for a time": made.AUTOTVM_LINE.replace("0.0089085", "0.0089085, NaN"),
    "an endless time": made.AUTOTVM_LINE.replace("0.0089085", "Infinity"),
    "a time that no clock shows": made.AUTOTVM_LINE.replace("0.0089085", "5e-324"),
    "endless index": made.AUTOTVM_LINE.replace("594848", "Infinity"),
    "endless factor": made.AUTOTVM_LINE.replace("[-1, 1, 2, 1]", "[-1, 1, 2, 1e999]"),
    "three extents": made.AUTOTVM_LINE.replace("[1, 128, 28, 28]", "[1, 128, 28]"),
    "half a target": made.AUTOTVM_LINE.replace('"cuda -keys', '"{'),
    "a number for a task": made.AUTOTVM_LINE.replace('"conv2d_nchw.cuda"', "7"),
}


@pytest.mark.parametrize("line", DAMAGED.values(), ids=DAMAGED)
def test_damaged_line_is_a_value_error_that_says_so(line):
    with pytest.raises(ValueError, match="not a record of a measurement"):
        Record.from_json(line)


# Tasks


SPELLINGS = [
    [[1, 1], [1, 1, 1, 1], [1, 1], "float32"],
    [[1, 1], [1, 1], [1, 1], "float32"],
    [1, 1, 1, "float32"],
    [[1, 1], "SAME", [1, 1], "float32"],
    [(1, 1), (1, 1), 1, "NCHW", "float32"],
]


@pytest.mark.parametrize("rest", SPELLINGS)
def test_spellings_of_args_are_one_task(rest):
    args = [["TENSOR", list(SMALL.data), "float32"], ["TENSOR", list(SMALL.weight), "float32"], *rest]
    assert TaskKey.of(RTX, "conv2d_nchw", args) == small_task().key


@plain_or_gzip
def test_best_records_are_tied_to_target_and_workload(tmp_path, name):
    turing = Target.parse("cuda -arch=sm_75")
    tasks = [small_task(), small_task(target=turing), small_task(workload=replace(SMALL, stride=(2, 2)))]
    log = [
        record(index, (5 - index) * (number + 1) * 1e-3, task=task) for index in range(4) for number, task in enumerate(tasks)
    ]
    log += [record(4, None, task=task) for task in tasks]
    best = best_records(write_log(tmp_path / name, log))
    assert list(best) == [task.key for task in tasks]
    for number, task in enumerate(tasks):
        assert best[task.key].index == 3
        assert best[task.key].measurement.cost == 2 * (number + 1) * 1e-3


def test_best_record_is_the_fastest_of_several_logs_by_its_median(tmp_path):
    steady, lucky = record(1, 2e-3), record(2, 1e-3)
    lucky = replace(lucky, measurement=replace(lucky.measurement, seconds=(1e-3, 3e-3, 3e-3)))
    logs = [write_log(tmp_path / "a.jsonl", [lucky]), write_log(tmp_path / "b.jsonl.gz", [steady, record(3, None)])]
    assert best_records(logs) == {steady.key: as_logged(steady)}
    assert best_records(reversed(logs)) == {steady.key: as_logged(steady)}


def test_a_folder_stands_for_the_log_in_it(tmp_path):
    log = write_log(tmp_path / "records.jsonl", [record(1, 2e-3), record(2, 1e-3)])
    assert read_records(tmp_path) == read_records(log)
    assert best_records(tmp_path) == best_records(log)


def test_default_schedule_can_be_the_best_record(tmp_path):
    default = record(DEFAULT_INDEX, 1e-4)
    assert best_records(write_log(tmp_path / "log.jsonl", [record(1), default])) == {default.key: default}


def test_tasks_that_only_failed_have_no_best_record(tmp_path):
    assert best_records(write_log(tmp_path / "log.jsonl", [record(1, None)])) == {}
