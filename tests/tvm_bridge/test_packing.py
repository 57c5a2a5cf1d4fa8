"""Weights packed ahead of time: kernels are parted into what runs at every call and what runs once."""

import numpy as np
import pytest
from hypothesis import given, settings
from tvm import s_tir, te

from tests.tvm_bridge.templates import cpu_checks as checks
from tvm_bridge import packing
from tvm_bridge.build import compiled
from tvm_bridge.convolution import Conv2d


@settings(max_examples=6, deadline=None)
@given(checks.configured())
def test_packer_lays_filters_of_a_vector_side_by_side(case):
    workload, config = case
    kernel, packers = packing.split(checks.scheduled(workload, config))
    (weight,) = checks.normal(workload.weight)
    lanes = config["tile_f"][3]
    expected = np.stack(np.split(weight, len(weight) // lanes)).transpose(0, 2, 3, 4, 1)
    assert tuple(packers) == (1,)
    assert [int(extent) for extent in kernel.params[1].shape] == list(expected.shape)
    pack = compiled({"pack": packers[1]}, checks.HOST)["pack"]
    np.testing.assert_array_equal(checks.call(pack, [weight], expected.shape), expected)


def test_function_without_packing_comes_back_as_it_is():
    function = Conv2d((1, 4, 5, 5), (4, 4, 3, 3)).prim_func()
    kernel, packers = packing.split(function)
    assert kernel is function
    assert packers == {}


def test_every_packed_parameter_has_a_packer():
    left, right = (te.placeholder((6, 4), "float32", name=name) for name in ("left", "right"))
    k = te.reduce_axis((0, 4))
    product = te.compute((6, 6), lambda i, j: te.sum(left[i, k] * right[j, k], axis=k), name="product")
    schedule = s_tir.Schedule(te.create_prim_func([left, right, product]))
    for operand in (0, 1):
        copy = schedule.cache_read("product", operand, "global")
        schedule.annotate(copy, packing.LAYOUT_REWRITE, True)
        schedule.transform_layout("product", ("read", operand), lambda row, column: (column, row))
    kernel, packers = packing.split(schedule.mod["main"])
    library = compiled({"main": kernel} | {f"pack_{place}": packer for place, packer in packers.items()}, checks.HOST)
    operands = checks.normal((6, 4), (6, 4))
    packed = [checks.call(library[f"pack_{place}"], [operands[place]], (4, 6)) for place in (0, 1)]
    for array, operand in zip(packed, operands, strict=True):
        np.testing.assert_array_equal(array, operand.T)
    result = checks.call(library["main"], packed, (6, 6))
    np.testing.assert_allclose(result, operands[0] @ operands[1].T, rtol=1e-5)


def test_a_marked_block_that_reads_no_parameter_is_refused():
    data = te.placeholder((4, 4), name="data")
    doubled = te.compute((4, 4), lambda i, j: data[i, j] * 2.0, name="doubled")
    schedule = s_tir.Schedule(te.create_prim_func([data, te.compute((4, 4), lambda i, j: doubled[j, i], name="turned")]))
    schedule.annotate(schedule.get_sblock("turned"), packing.LAYOUT_REWRITE, True)
    with pytest.raises(ValueError, match=r"function: its block 'turned', marked .*, must alone read a parameter"):
        packing.split(schedule.mod["main"])
