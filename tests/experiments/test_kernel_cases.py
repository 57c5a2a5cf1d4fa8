"""Layers are listed once, and are known by name."""

from pathlib import Path

import pytest

from experiments.cpu_kernels import NETWORKS
from experiments.kernel_cases import cases
from tvm_bridge import ErrorCategory, Measurement, Record, RecordLog


def test_each_layer_is_listed_once():
    every = cases(NETWORKS, None, 2, Path("out"))
    assert len({case.layer.workload for case in every}) == len(every) == 12 + 19 + 5 + 9 + 18
    assert len({case.records for case in every} | {case.searched for case in every}) == 2 * len(every)
    assert [case.label for case in cases(["vgg-16", "vgg-16"], ["conv1-1"], 2, Path("out"))] == ["vgg-16 conv1-1"]


def test_groups_are_of_dense_pointwise_and_depthwise_convolutions():
    every = cases(["mobilenet-v1"], None, 1, Path("out"))
    assert {case.layer.name: case.group for case in every if case.layer.name in ("conv1", "sp-3-dp1", "sp-3-conv2")} == {
        "conv1": "dense",
        "sp-3-dp1": "depthwise",
        "sp-3-conv2": "pointwise",
    }


def test_the_number_of_threads_is_part_of_the_task_and_of_the_folder():
    (case,) = cases(["alexnet"], ["conv5"], 3, Path("out"))
    assert case.task.target.threads == 3
    assert case.records == Path("out/3-threads/tune/alexnet-conv5.jsonl")
    assert case.best is None


def test_a_layer_in_channels_last_is_a_case_of_its_own():
    (case,) = cases(["alexnet"], ["conv5"], 2, Path("out"))
    other = case.channels_last
    assert (other.label, other.group, other.layer.workload.operator) == ("alexnet conv5-nhwc", "dense", "conv2d_nhwc")
    assert other.layer.workload.flop == case.layer.workload.flop
    assert other.records != case.records


def test_measurements_are_counted_whoever_made_them_and_however_they_ended(tmp_path):
    (case,) = cases(["alexnet"], ["conv5"], 2, tmp_path)
    (other,) = cases(["alexnet"], ["conv4"], 2, tmp_path)
    assert case.measured == 0
    case.records.parent.mkdir(parents=True)
    ok, failed = Measurement((0.1,)), Measurement((), ErrorCategory.RUN_TIMEOUT)
    for key, index, config, measurement in (
        (case.task.key, -1, None, ok),
        (case.task.key, 3, {}, ok),
        (case.task.key, 4, {}, failed),
        (other.task.key, 5, {}, ok),
    ):
        RecordLog(case.records).append(Record(key, index, config, measurement))
    assert case.measured == 2
    assert [record.index for record in case.measurements] == [-1, 3, 4]


def test_a_layer_that_no_network_has_is_refused():
    with pytest.raises(ValueError, match=r"--layers: none of alexnet has a layer rb1\."):
        cases(["alexnet"], ["conv1", "rb1"], 2, Path("out"))
