"""Folding batch normalisation changes what a network costs, not what it computes."""

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.tvm_bridge.network.small_network import SHAPE, small_network
from tvm_bridge.network.batch_norm import fold_batch_norm


def _run(module, data):
    machine = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())
    return machine["main"](tvm.runtime.tensor(data)).numpy()


def _operators(module):
    return [
        binding.value.op.name
        for block in module["main"].body.blocks
        for binding in block.bindings
        if hasattr(binding.value, "op")
    ]


def test_the_result_stays_and_no_batch_norm_is_left():
    module = small_network().module
    folded = fold_batch_norm(module)
    data = np.random.default_rng(1).normal(size=SHAPE).astype("float32")
    np.testing.assert_allclose(_run(folded, data), _run(module, data), rtol=1e-4, atol=1e-3)
    assert "relax.nn.batch_norm" in _operators(module)
    assert "relax.nn.batch_norm" not in _operators(folded)
    # after a convolution the scale is in its weights; before any, it stays
    assert _operators(folded).count("relax.multiply") == 1


def _normalised(layout, weight_layout, *, read_twice=False, training=False):
    """conv -> batch norm, and the convolution's own result if it is read twice."""
    generator = np.random.default_rng(0)
    shape = (1, 4, 5, 5) if layout == "NCHW" else (1, 5, 5, 4)
    axis = layout.index("C")
    weight = generator.normal(size=(6, 4, 3, 3) if weight_layout == "OIHW" else (3, 3, 4, 6)).astype("float32")
    parameters = [relax.const(generator.uniform(0.5, 2, 6).astype("float32")) for _ in range(4)]
    builder = relax.BlockBuilder()
    data = relax.Var("data", relax.TensorType(shape, "float32"))
    with builder.function("main", [data]):
        with builder.dataflow():
            product = builder.emit(
                relax.op.nn.conv2d(data, relax.const(weight), data_layout=layout, kernel_layout=weight_layout)
            )
            normal = builder.emit(relax.op.nn.batch_norm(product, *parameters, axis=axis, training=training))
            result = builder.emit(relax.TupleGetItem(normal, 0))
            result = builder.emit_output(relax.op.add(result, product) if read_twice else result)
        builder.emit_func_output(result)
    return builder.get(), generator.normal(size=shape).astype("float32")


@pytest.mark.parametrize(("layout", "weight_layout"), [("NCHW", "OIHW"), ("NHWC", "HWIO")])
def test_both_layouts_fold_into_the_weights(layout, weight_layout):
    module, data = _normalised(layout, weight_layout)
    folded = fold_batch_norm(module)
    assert _operators(folded) == ["relax.nn.conv2d", "relax.add"]
    np.testing.assert_allclose(_run(folded, data), _run(module, data), rtol=1e-4, atol=1e-4)


def test_a_convolution_that_something_else_reads_keeps_its_weights():
    module, data = _normalised("NCHW", "OIHW", read_twice=True)
    folded = fold_batch_norm(module)
    assert _operators(folded).count("relax.nn.conv2d") == 1
    np.testing.assert_allclose(_run(folded, data), _run(module, data), rtol=1e-4, atol=1e-4)


def test_a_batch_norm_in_training_is_left_alone():
    module, _ = _normalised("NCHW", "OIHW", training=True)
    assert "relax.nn.batch_norm" in _operators(fold_batch_norm(module))
