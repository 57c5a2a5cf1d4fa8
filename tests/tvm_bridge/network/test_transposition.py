"""Transpositions: what moves, what is measured, and that a log is not measured again."""

import numpy as np
import pytest
import tvm

from tvm_bridge.build import compiled
from tvm_bridge.measure import ErrorCategory, Measurement, Measurer, TuningError
from tvm_bridge.measure.local import Local
from tvm_bridge.network.transposition import Transposition, transposition_seconds
from tvm_bridge.records import read_records
from tvm_bridge.target import Target

TARGET = Target.parse("llvm -mcpu=x86-64 -num-cores=1")
NHWC = (0, 2, 3, 1)


class Counting(Measurer):
    """Says that a transposition takes as many seconds as its tensor is wide, and counts how many it was asked for."""

    def __init__(self, error=ErrorCategory.NO_ERROR, name="one"):
        self.count, self.error, self.name = 0, error, name

    def device(self, task):
        return self.name

    def stream(self, task, configs):
        assert list(configs) == [None]
        self.count += 1
        seconds = (float(task.workload.data[3]),) if not self.error else ()
        yield 0, Measurement(seconds, self.error, "as told", device=self.name)


@pytest.mark.parametrize(
    ("data", "moves"), [((1, 3, 5, 7), True), ((2, 1, 5, 7), False), ((2, 8, 1, 1), False), ((1, 8, 1, 2), True)]
)
def test_a_tensor_moves_unless_its_axes_are_in_order(data, moves):
    transposition = Transposition(data, NHWC)
    tensor = np.arange(np.prod(data)).reshape(data)
    assert transposition.moves == (transposition.reference(tensor).ravel() != tensor.ravel()).any() == moves


def test_function_transposes():
    transposition = Transposition((1, 3, 4, 5), NHWC)
    data = np.random.default_rng(0).standard_normal(transposition.data, np.float32)
    output = tvm.runtime.tensor(np.zeros(transposition.output, np.float32))
    compiled({"main": transposition.prim_func()}, Target("llvm")).mod["main"](tvm.runtime.tensor(data), output)
    np.testing.assert_array_equal(output.numpy(), transposition.reference(data))


def test_a_log_is_not_measured_again(tmp_path):
    first, second, still = (Transposition(data, NHWC) for data in ((1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 1, 1)))
    measurer = Counting()
    log = tmp_path / "transpositions.jsonl"
    assert transposition_seconds([first, first, still], TARGET, log=log, measurer=measurer) == {first: 4.0, still: 0.0}
    assert measurer.count == len(read_records(log)) == 1
    assert transposition_seconds([first, second], TARGET, log=log, measurer=measurer) == {first: 4.0, second: 5.0}
    assert measurer.count == 2
    other = Target.parse("llvm -mcpu=x86-64 -num-cores=2")
    transposition_seconds([first], other, log=log, measurer=measurer)
    assert measurer.count == 3


def test_another_device_has_a_log_of_its_own(tmp_path):
    first, second = (Transposition(data, NHWC) for data in ((1, 2, 3, 4), (1, 2, 3, 5)))
    log = tmp_path / "transpositions.jsonl"
    transposition_seconds([first], TARGET, log=log, measurer=Counting())
    with pytest.raises(ValueError, match=r"transpositions on 'one', not 'another'; use another log"):
        transposition_seconds([first, second], TARGET, log=log, measurer=Counting(name="another"))
    other = Target.parse("llvm -mcpu=x86-64 -num-cores=2")  # threads are part of a device's name
    assert transposition_seconds([first], other, log=log, measurer=Counting(name="another")) == {first: 4.0}


def test_what_does_not_work_is_an_error_that_names_it():
    with pytest.raises(TuningError, match=r"data=\(1, 2, 3, 4\).*RUN_TIMEOUT, as told"):
        transposition_seconds([Transposition((1, 2, 3, 4), NHWC)], TARGET, measurer=Counting(ErrorCategory.RUN_TIMEOUT))


def test_this_machine_measures_one():
    transposition = Transposition((1, 4, 8, 8), NHWC)
    with Local(min_repeat_ms=1, builders=1) as measurer:
        seconds = transposition_seconds([transposition], Target("llvm").resolve(), measurer=measurer)
    assert 0 < seconds[transposition] < 1
