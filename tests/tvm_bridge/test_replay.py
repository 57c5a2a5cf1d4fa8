"""Replay: recorded logs and tables are tasks that any method can search, and that answer with what was recorded."""

import gzip
import json
import re
import statistics
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tvm_bridge as bridge
from tests.records_folder import RECORDS, needs_records
from tests.tvm_bridge import record_strategies as made
from tests.tvm_bridge.record_strategies import (
    CPU,
    RTX,
    SMALL,
    TABLE,
    TILED,
    both_algorithms,
    record,
    small_task,
    write_log,
    write_table,
)
from tvm_bridge import ErrorCategory, Replay, replay
from tvm_bridge.history import sources
from tvm_bridge.records import DEFAULT_INDEX
from tvm_bridge.target import Target
from tvm_bridge.task import task_of

any_file = pytest.mark.parametrize("ending", ["", ".gz"], ids=["plain", "gzip"])


def measured(task, index):
    """What a task's measurer answers for one configuration."""
    (answer,) = task.measurer.measure(task, task.space.from_index([index]))
    return answer


def pool(task):
    """The indices that a task's space is confined to."""
    return task.space.to_index(task.space.pool.rows)


# Logs


@any_file
def test_log_is_a_task_for_every_target_and_workload(tmp_path, ending):
    others = [small_task(target=Target.parse("cuda -arch=sm_75")), small_task(workload=replace(SMALL, stride=(2, 2)))]
    tasks = [small_task(), *others]
    log = [record(index, 1e-3 * (index + number), task=task) for index in (1, 2, 3) for number, task in enumerate(tasks)]
    replayed = replay(write_log(tmp_path / f"log.jsonl{ending}", log))
    assert [task.key for task in replayed] == [task.key for task in tasks]
    for number, (task, original) in enumerate(zip(replayed, tasks, strict=True)):
        assert (task.operator, task.flop, task.space.shape) == (original.operator, original.flop, original.space.shape)
        assert pool(task) == [1, 2, 3]
        assert [measured(task, index).seconds for index in (1, 2, 3)] == [(1e-3 * (index + number),) for index in (1, 2, 3)]


def test_logs_are_pooled_by_task(tmp_path):
    paths = [write_log(tmp_path / f"{index}.jsonl", [record(index)]) for index in (5, 2)]
    (task,) = replay(paths)
    assert pool(task) == [2, 5]


def test_space_is_confined_to_what_was_recorded(tmp_path):
    (task,) = replay(write_log(tmp_path / "log.jsonl", [record(index) for index in (3, 30, 300)]))
    assert task.space.size == 3
    rows = task.space.from_index(range(1000))
    assert set(np.flatnonzero(task.space.valid(rows))) == {3, 30, 300}


def test_default_schedule_of_a_log_is_no_configuration(tmp_path):
    (task,) = replay(write_log(tmp_path / "log.jsonl", [record(DEFAULT_INDEX, 1e-5), record(7)]))
    assert pool(task) == [7]
    assert not task.measurer.has_default


@settings(deadline=None, max_examples=50)
@given(st.lists(made.measurements | made.failures, min_size=1, max_size=5))
def test_repeated_configuration_takes_the_median_of_what_worked(tmp_path_factory, repeats):
    path = tmp_path_factory.mktemp("repeats") / "log.jsonl"
    repeats = [replace(each, device="a GPU") for each in repeats]
    (task,) = replay(write_log(path, [replace(record(4), measurement=each) for each in repeats]))
    pooled = measured(task, 4)
    if worked := [each.cost for each in repeats if each.ok]:
        assert (pooled.ok, pooled.seconds, pooled.message) == (True, (statistics.median(worked),), "")
    else:
        assert pooled in repeats


def test_configuration_is_named_by_its_knobs_where_the_index_disagrees(tmp_path):
    path = write_log(tmp_path / "log.jsonl", [replace(record(4, 0.25), index=5)])
    with pytest.warns(UserWarning, match="index 5 does not name .* it is 4"):
        (task,) = replay(path)
    assert pool(task) == [4]
    assert measured(task, 4).seconds == (0.25,)


@pytest.mark.parametrize(("devices", "expected"), [(["", "an RTX"], "an RTX"), ([""], str(RTX))])
def test_device_is_the_recorded_one(tmp_path, devices, expected):
    (task,) = replay(write_log(tmp_path / "log.jsonl", [record(index, device=name) for index, name in enumerate(devices)]))
    assert task.measurer.device(task) == expected


def test_devices_are_tasks_of_their_own(tmp_path):
    """Their times do not mix; a record that does not say where it was made counts for the first."""
    log = [record(1, 0.5), *(record(1, seconds, device=name) for name, seconds in (("a", 0.25), ("b", 0.125)))]
    first, second = replay(write_log(tmp_path / "log.jsonl", log))
    assert [task.measurer.device(task) for task in (first, second)] == ["a", "b"]
    assert [measured(task, 1).seconds for task in (first, second)] == [(0.375,), (0.125,)]
    assert [task.name for task in (first, second)] == [f"{SMALL.summary} on a", f"{SMALL.summary} on b"]


def test_the_task_of_a_fused_function_is_not_the_operators(tmp_path):
    plain, fused = record(1, 0.5), record(2, 0.25, task=replace(small_task(), digest="abc"))
    tasks = replay(write_log(tmp_path / "log.jsonl", [plain, fused]))
    assert [task.key for task in tasks] == [plain.key, fused.key]
    assert [source.space.to_index(source.knobs) for source in sources([plain, fused], tasks[1])] == [[1]]


@pytest.mark.parametrize(
    "change",
    [{"operator": "conv3d_ncdhw"}, {"target": Target.parse("rocm")}, {"operator": "conv2d_hwcn"}],
    ids=str,
)
def test_log_without_a_template_is_an_error(tmp_path, change):
    foreign = replace(record(), key=record().key._replace(**change))
    with pytest.raises(ValueError, match=r"conv3d_ncdhw|rocm|conv2d_hwcn"):
        replay(write_log(tmp_path / "log.jsonl", [foreign]))


# What was not recorded


@pytest.mark.parametrize("make", ["log", "table"])
def test_missing_configuration_is_an_error_unless_it_counts_as_failed(tmp_path, make):
    if make == "log":
        path, missing = write_log(tmp_path / "log.jsonl", [record(1)]), 2
    else:
        path, missing = write_table(tmp_path / "table.json"), 2
    (strict,), (lenient,) = replay(path), replay(path, missing="fail")
    with pytest.raises(LookupError, match=rf"configuration {missing} was not recorded.*missing='fail'"):
        measured(strict, missing)
    answer = measured(lenient, missing)
    assert (answer.error, answer.message) == (ErrorCategory.UNKNOWN, "not recorded")
    assert measured(lenient, 1) == measured(strict, 1)


def test_default_schedule_is_missing(tmp_path):
    (task,) = replay(write_table(tmp_path / "table.json"))
    with pytest.raises(LookupError, match="TVM's default schedule was not recorded"):
        bridge.default_seconds(task)


def test_other_values_of_missing_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="missing: 'ignore' is neither 'error' nor 'fail'"):
        Replay({}, missing="ignore")


# Tables


@any_file
def test_table_is_a_task(tmp_path, ending):
    (task,) = replay(write_table(tmp_path / f"table.json{ending}"))
    assert (task.operator, task.name, task.measurer.device(task)) == ("gemm", "gemm on an A100", "an A100")
    assert task.space.size == len(TABLE["config"])
    assert task.space.names == tuple(TABLE["knobs"])
    configs = [dict(zip(TABLE["knobs"], row, strict=True)) for row in TABLE["config"]]
    assert [task.space.to_config(row) for row in task.space.pool.rows] == sorted(configs, key=lambda config: config["order"])
    rows = np.stack([task.space.from_config(config) for config in configs])
    answers = task.measurer.measure(task, rows)
    assert [answer.seconds for answer in answers] == [(0.5,), (), (0.25,), (2.0,), ()]
    assert [answer.error for answer in answers if not answer.ok] == [ErrorCategory.RUNTIME_DEVICE, ErrorCategory.UNKNOWN]
    assert answers[4].message == "CompilationFailedConfig"


@pytest.mark.parametrize("error", [0, "0", "", None])
def test_row_without_a_time_failed_whatever_it_says(tmp_path, error):
    (task,) = replay(write_table(tmp_path / "table.json", error=[error] * 5))
    assert [measured(task, index).ok for index in pool(task)] == [True, True, False, True, False]
    assert {measured(task, index).error for index in pool(task)} == {ErrorCategory.NO_ERROR, ErrorCategory.UNKNOWN}


def test_throughput_of_a_table_is_runs_a_second(tmp_path):
    (task,) = replay(write_table(tmp_path / "table.json"))
    assert task.flop is None
    assert task.gflops(0.25) == 4.0


def test_tables_follow_logs(tmp_path):
    paths = [write_table(tmp_path / "table.json"), write_log(tmp_path / "log.jsonl", [record()])]
    assert [task.operator for task in replay(paths)] == ["conv2d_nchw", "gemm"]


NO_TABLES = {
    "nothing": b"",
    "text": b"hello",
    "a log": record().to_json().encode() + b"\n" + record(1).to_json().encode(),
    "a record": record().to_json().encode(),
    "null": b"null",
    "a list": b"[1, 2]",
    "binary": b"\xff\xfe\x00",
}


@any_file
@pytest.mark.parametrize("content", NO_TABLES.values(), ids=NO_TABLES)
def test_file_that_is_no_table_is_an_error_that_names_it(tmp_path, content, ending):
    path = tmp_path / f"table.json{ending}"
    path.write_bytes(gzip.compress(content) if ending else content)
    with pytest.raises(ValueError, match=re.escape(f"{path}: not a table of measurements")):
        replay(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: json.dumps(TABLE).encode(),
        lambda content: content[:-10],
        lambda content: content[:40] + bytes(20) + content[60:],
        lambda content: content[:40] + b"\xff" * 20 + content[60:],
    ],
    ids=["not compressed", "torn", "zeroed", "overwritten"],
)
def test_damaged_gzip_is_an_error_that_names_the_table(tmp_path, damage):
    path = write_table(tmp_path / "table.json.gz")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=re.escape(f"{path}: not a table of measurements")):
        replay(path)


DAMAGED_COLUMNS = {
    "no kernel": {"kernel": None},
    "a number for a device": {"device": 7},
    "fewer times": {"time_s": [0.5]},
    "fewer errors": {"error": []},
    "no rows": {"config": [], "time_s": [], "error": []},
    "fewer names": {"knobs": ["block"]},
    "repeated names": {"knobs": ["block", "block"]},
    "a short row": {"config": [*TABLE["config"][:4], [32]]},
    "a name among numbers": {"config": [*TABLE["config"][:4], ["wide", 1]]},
    "a null among numbers": {"config": [*TABLE["config"][:4], [None, 1]]},
    "a list among numbers": {"config": [*TABLE["config"][:4], [[1], 1]]},
    "a row that is no list": {"config": [*TABLE["config"][:4], 7]},
    "a time that is no number": {"time_s": [*TABLE["time_s"][:4], "soon"]},
    "a time that no run takes": {"time_s": [*TABLE["time_s"][:4], 0.0]},
    "an unknown error number": {"error": [*TABLE["error"][:4], 99]},
}


@pytest.mark.parametrize("change", DAMAGED_COLUMNS.values(), ids=DAMAGED_COLUMNS)
def test_table_with_damaged_columns_is_an_error_that_names_it(tmp_path, change):
    path = write_table(tmp_path / "table.json", **change)
    with pytest.raises(ValueError, match=re.escape(f"{path}: not a table of measurements")):
        replay(path)


def test_missing_table_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"table\.json"):
        replay(tmp_path / "table.json")


# Tuning what was recorded


exhaustive = pytest.mark.parametrize("method", ["random", "grid"])


@exhaustive
@given(st.lists(st.none() | st.floats(1e-6, 10), min_size=1, max_size=30).filter(any), st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_tuning_finds_the_optimum_where_the_budget_covers_the_table(tmp_path_factory, method, times, seed):
    rows = [[number % 5, number // 5] for number in range(len(times))]
    path = write_table(
        tmp_path_factory.mktemp("table") / "table.json", config=rows, time_s=times, error=[0 if time else 1 for time in times]
    )
    (task,) = replay(path)
    result = bridge.tune(task, method=method, trials=len(times), seed=seed, progress=False)
    best = min(time for time in times if time)
    assert (result.best.seconds, result.best.gflops) == (best, 1 / best)
    assert result.default is None
    assert len(result.records) == len(times)
    assert result.errors.get(ErrorCategory.INSTANTIATION, 0) == times.count(None)


@exhaustive
def test_tuning_a_log_stays_within_what_was_recorded(tmp_path, method):
    space, some = small_task().space, np.arange(0, 20_000, 97)
    valid = some[space.valid(space.from_index(some))].tolist()
    (task,) = replay(write_log(tmp_path / "log.jsonl", [record(index, 1 / (1 + index % 91)) for index in valid]))
    result = bridge.tune(task, method=method, trials=len(some), progress=False)
    assert sorted(each.index for each in result.records) == valid
    assert result.best.seconds == min(each.measurement.cost for each in result.records)
    assert result.best.gflops == pytest.approx(task.flop / result.best.seconds / 1e9)


def test_tuning_where_all_failed_says_why(tmp_path):
    path = write_table(tmp_path / "table.json", time_s=[None] * 5, error=[4, 4, 4, 1, "HangUp"])
    (task,) = replay(path)
    with pytest.raises(bridge.TuningError, match=r"gemm on an A100: all 5 trials failed: 3 x RUNTIME_DEVICE .*HangUp"):
        bridge.tune(task, method="random", progress=False)


def test_replay_is_resumed_from_its_log(tmp_path):
    (task,) = replay(write_table(tmp_path / "table.json"))
    first = bridge.tune(task, method="random", trials=2, log=tmp_path / "log.jsonl", progress=False)
    heard = []
    second = bridge.tune(task, method="random", trials=5, log=tmp_path / "log.jsonl", progress=False, callbacks=[heard.append])
    assert [step.reused for step in heard] == [True, True, False, False, False]
    assert [each.index for each in second.records[:2]] == [each.index for each in first.records]
    assert Counter(each.index for each in bridge.read_records(tmp_path / "log.jsonl")) == Counter(pool(task))


# The published records


@needs_records
@pytest.mark.parametrize(
    ("name", "method"), [("autotvm_exhaustive/matmul1024_sm75", "random"), ("kernel_tuner/convolution_a100", "grid")]
)
def test_optimum_of_a_published_table_is_found(name, method):
    path = RECORDS / f"{name}.json.gz"
    table = json.loads(gzip.decompress(path.read_bytes()))
    (task,) = replay(path)
    result = bridge.tune(task, method=method, trials=len(table["config"]), progress=False)
    assert result.best.seconds == min(time for time in table["time_s"] if time is not None)
    assert list(result.best.config.values()) in [
        row for row, time in zip(table["config"], table["time_s"], strict=True) if time == result.best.seconds
    ]
    assert sum(result.errors.values()) == table["time_s"].count(None)
    if "autotvm" in name:
        assert result.errors == Counter(error for error in table["error"] if error)


@needs_records
@pytest.mark.parametrize("name", ["rtx3080/resnet-18/droplet", "v100/nasnet-depthwise/xgb-end-to-end"])
def test_published_log_answers_as_recorded(name):
    path = RECORDS / "autotvm" / f"{name}.jsonl.gz"
    recorded = defaultdict(lambda: defaultdict(list))
    with gzip.open(path) as lines:
        for fields in map(json.loads, lines):
            recorded[json.dumps(fields["input"][2])][fields["config"]["index"]].append(fields["result"])
    tasks = replay(path)  # a wrong index would be a warning, which is an error
    assert len(tasks) == len(recorded)
    for task, results in zip(tasks, recorded.values(), strict=True):
        assert pool(task) == sorted(results)
        answers = dict(zip(pool(task), task.measurer.measure(task, task.space.pool.rows), strict=True))
        for index, repeats in results.items():
            times = [time for seconds, error, *_ in repeats for time in seconds if error == 0]
            assert answers[index].cost == (statistics.median(times) if times else float("inf"))


def test_log_of_the_enlarged_space_is_a_task_with_it(tmp_path):
    records = both_algorithms(task_of(TILED, CPU, enlarged=True))
    (task,) = replay(write_log(tmp_path / "log.jsonl", records))
    assert task.enlarged
    assert pool(task) == sorted(each.index for each in records)
    assert {config["winograd"] for config in map(task.space.to_config, task.space.pool.rows)} == {0, 2, 4}
