"""History: other tasks' records become what methods learn from."""

from dataclasses import replace

import numpy as np
import pytest

from tests.tvm_bridge.record_strategies import CPU, RTX, SMALL, TILED, both_algorithms, record, small_task, write_log
from tvm_bridge.convolution import Conv2d
from tvm_bridge.history import sources
from tvm_bridge.records import DEFAULT_INDEX
from tvm_bridge.target import Target
from tvm_bridge.task import task_of

TASK = small_task()
STRIDED = small_task(workload=replace(SMALL, stride=(2, 2)))
TURING = small_task(target=Target.parse("cuda -arch=sm_75"))
DEPTHWISE = small_task(workload=Conv2d((1, 8, 6, 6), (8, 1, 3, 3), groups=8))


def test_records_are_grouped_by_task():
    """The same shape on another target is another task."""
    history = [record(index, 1e-3 * (index + 1), task=task) for index in (3, 1, 2) for task in (STRIDED, TURING)]
    strided, turing = sources(history, TASK)
    for source, task in ((strided, STRIDED), (turing, TURING)):
        assert source.space.names == task.space.names
        assert source.space.shape == task.space.shape
        assert source.space.to_index(source.knobs) == [3, 1, 2]
        np.testing.assert_allclose(source.throughput, [task.gflops(1e-3 * (index + 1)) for index in (3, 1, 2)])


def test_failures_have_no_throughput():
    (source,) = sources([record(1, task=STRIDED), record(2, None, task=STRIDED)], TASK)
    assert source.throughput[0] > 0
    assert source.throughput[1] == 0


def test_own_records_defaults_and_other_operators_are_left_out():
    history = [record(1), record(2, task=DEPTHWISE), record(DEFAULT_INDEX, task=STRIDED), record(3, task=STRIDED)]
    (source,) = sources(history, TASK)
    assert source.space.to_index(source.knobs) == [3]


def test_another_kind_of_target_teaches_nothing():
    cpu = task_of(replace(SMALL, stride=(2, 2)), CPU)
    (source,) = sources([record(3, task=STRIDED), record(4, task=cpu)], TASK)
    assert source.space.to_index(source.knobs) == [3]
    with pytest.raises(ValueError, match="history: it holds no record of another conv2d_nchw on cuda"):
        sources([record(4, task=cpu)], TASK)


@pytest.mark.parametrize("form", ["path", "text", "paths", "records"])
def test_history_is_paths_or_records(tmp_path, form):
    records = [record(index, task=STRIDED) for index in range(4)]
    path = write_log(tmp_path / "log.jsonl.gz", records)
    history = {"path": path, "text": str(path), "paths": [path], "records": records}[form]
    (source,) = sources(history, TASK)
    assert source.space.to_index(source.knobs) == [0, 1, 2, 3]


def test_paths_and_records_can_be_mixed(tmp_path):
    path = write_log(tmp_path / "log.jsonl", [record(1, task=STRIDED)])
    (source,) = sources([path, record(2, task=STRIDED)], TASK)
    assert source.space.to_index(source.knobs) == [1, 2]


@pytest.mark.parametrize("history", [[], [record(1)], [record(1, task=DEPTHWISE)], [record(DEFAULT_INDEX, task=STRIDED)]])
def test_nothing_to_learn_from_is_an_error(history):
    with pytest.raises(ValueError, match="history: it holds no record of another conv2d_nchw"):
        sources(history, TASK)


def test_anything_else_is_an_error():
    with pytest.raises((TypeError, ValueError)):
        sources([record(1, task=STRIDED), 7], TASK)


def test_missing_log_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        sources(tmp_path / "log.jsonl", TASK)


def test_task_is_recognised_under_another_spelling_of_its_target():
    same = small_task(target=Target.parse({"kind": "cuda", "arch": "sm_86", "max_num_threads": 1024}))
    assert same.key == small_task(target=RTX).key
    with pytest.raises(ValueError, match="history"):
        sources([record(1, task=same)], TASK)


def test_records_of_the_enlarged_space_teach_what_the_space_has():
    other = replace(TILED, weight=(32, 16, 3, 3))
    plain, enlarged = (task_of(TILED, CPU, enlarged=enlarged) for enlarged in (False, True))
    records = both_algorithms(task_of(other, CPU, enlarged=True))
    (source,) = sources(records, enlarged)
    assert source.space.feature_names == enlarged.space.feature_names
    assert source.space.to_index(source.knobs) == [each.index for each in records]
    direct = [each.index for each in records if not (each.config["winograd"] or each.config["layout"])]
    assert 0 < len(direct) < len(records)
    (source,) = sources(records, plain)
    assert source.space.feature_names == plain.space.feature_names
    assert source.space.to_index(source.knobs) == direct
    (source,) = sources([record(index, task=task_of(other, CPU)) for index in direct], enlarged)
    assert source.space.to_index(source.knobs) == direct


def test_only_what_the_space_lacks_is_nothing_to_learn_from():
    records = both_algorithms(task_of(replace(TILED, weight=(32, 16, 3, 3)), CPU, enlarged=True))
    tiled = [each for each in records if each.config["winograd"]]
    for task in (task_of(TILED, CPU), TASK):
        with pytest.raises(ValueError, match="history: it holds no record of another conv2d_nchw"):
            sources(tiled, task)
