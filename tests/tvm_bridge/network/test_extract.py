"""Tasks out of a network: each once, with how often it occurs; nothing is dropped."""

import pytest
import tvm

from tests.tvm_bridge.network.small_network import small_network
from tvm_bridge.network.extract import extract_tasks, extraction_of
from tvm_bridge.network.load import Network

CPU = {"kind": "llvm", "mcpu": "skylake-avx512", "num-cores": 2}


@pytest.fixture(scope="module")
def extraction():
    return extract_tasks(small_network(), CPU)


def test_tasks_are_unique_and_counted(extraction):
    found = [(each.task.operator, each.count) for each in extraction.tasks]
    assert found == [("conv2d_nchw", 1), ("depthwise_conv2d_nchw", 2), ("conv2d_nchw", 1), ("dense", 1)]
    assert len({each.task.key for each in extraction.tasks}) == len(extraction.tasks)


def test_epilogues_are_kept(extraction):
    """A bias and a ReLU after the first, a residual before the pooling, a bias after the last."""
    parameters = [len(each.task.function.params) for each in extraction.tasks]
    assert parameters == [4, 3, 4, 4]


def test_every_call_is_a_task_or_listed_as_uncovered(extraction):
    covered = {name: each.count for each in extraction.tasks for name in each.functions}
    assert covered | extraction.uncovered == extraction.calls
    assert not extraction.foreign
    assert len(extraction.uncovered) == 3  # a scale and a shift before the first convolution, the pooling, the reshape
    functions = {name.name_hint for name, each in extraction.module.functions_items() if isinstance(each, tvm.tirx.PrimFunc)}
    assert functions == set(extraction.calls)


def test_the_target_decides_what_is_covered():
    cuda = extract_tasks(small_network(), {"kind": "cuda", "arch": "sm_80"})
    assert {each.task.target.kind for each in cuda.tasks} == {"cuda"}
    assert len(cuda.tasks) == 4


def test_an_extraction_is_for_one_target(extraction):
    assert extraction_of(extraction, None) is extraction
    assert extraction_of(extraction, CPU) is extraction
    with pytest.raises(ValueError, match=r"target: 'cuda' is not the extraction's, llvm.*; extract the tasks for it"):
        extraction_of(extraction, "cuda")


def test_the_space_can_be_autotvms_own():
    narrow = extract_tasks(small_network(), CPU, enlarged=False)
    assert all("winograd" not in each.task.space.names for each in narrow.tasks)


def test_weights_that_are_no_constants_leave_a_product_to_tvm():
    from tvm import relax

    builder = relax.BlockBuilder()
    data, weight = (relax.Var(name, relax.TensorType((4, 4), "float32")) for name in ("data", "weight"))
    with builder.function("main", [data, weight]):
        with builder.dataflow():
            result = builder.emit_output(relax.op.matmul(data, weight))
        builder.emit_func_output(result)
    extraction = extract_tasks(Network(builder.get(), "product"), CPU)
    assert extraction.tasks == ()
    assert list(extraction.uncovered.values()) == [1]


def test_what_is_no_function_of_the_module_is_listed_too():
    from tvm import relax

    builder = relax.BlockBuilder()
    data = relax.Var("data", relax.TensorType((4, 4), "float32"))
    with builder.function("main", [data]):
        with builder.dataflow():
            result = builder.emit_output(relax.call_dps_packed("other.library", data, data.ty))
        builder.emit_func_output(result)
    extraction = extract_tasks(Network(builder.get(), "foreign"), CPU)
    assert extraction.uncovered == {"other.library": 1}
    assert extraction.calls == {}
