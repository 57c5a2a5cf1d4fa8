"""What no template covers gets a plain schedule, which computes the same."""

import numpy as np
import pytest
import tvm
from tvm import relax

from tvm_bridge.build import compiled
from tvm_bridge.measure.jobs import shapes
from tvm_bridge.network.untuned import scheduled
from tvm_bridge.target import Target

CPU = Target.parse({"kind": "llvm", "num-cores": 2}).resolve()
SHAPE = (1, 24, 60, 61)


def _function(*operators):
    """The function that Relax makes of some operators, one after the other."""
    builder = relax.BlockBuilder()
    data = value = relax.Var("data", relax.TensorType(SHAPE, "float32"))
    with builder.function("main", [data]):
        with builder.dataflow():
            for operator in operators:
                value = builder.emit(operator(value))
            result = builder.emit_output(value)
        builder.emit_func_output(result)
    passes = (relax.transform.LegalizeOps(), relax.transform.AnnotateTIROpPattern(), relax.transform.FuseOps())
    module = tvm.ir.transform.Sequential([*passes, relax.transform.FuseTIR()])(builder.get())
    (function,) = (each for each in module.functions.values() if not isinstance(each, relax.Function))
    return function


def _run(function):
    """Its result for random arguments, the same at each call."""
    generator = np.random.default_rng(0)
    *arguments, (shape, dtype) = shapes(function)
    inputs = [tvm.runtime.tensor(generator.normal(size=shape).astype(dtype)) for shape, dtype in arguments]
    result = tvm.runtime.tensor(np.full(shape, np.nan, dtype))
    compiled({"main": function}, CPU).mod["main"](*inputs, result)
    return result.numpy()


scale = relax.const(np.linspace(1, 2, 24, dtype="float32").reshape(1, 24, 1, 1))
OPERATORS = {
    "elementwise": (lambda value: relax.op.multiply(value, scale), relax.op.nn.relu, lambda value: relax.op.add(value, scale)),
    "pooling": (lambda value: relax.op.nn.max_pool2d(value, (3, 3), (2, 2), (1, 1)), relax.op.nn.relu),
    "concatenation": (lambda value: relax.op.concat([value, value], 1),),
    "mean": (lambda value: relax.op.mean(value, [2, 3]),),
    "softmax": (lambda value: relax.op.nn.softmax(value, 1),),
    "transposition": (lambda value: relax.op.permute_dims(value, [0, 2, 3, 1]),),
}


@pytest.mark.parametrize("operators", OPERATORS.values(), ids=OPERATORS)
def test_the_result_stays(operators):
    function = _function(*operators)
    np.testing.assert_allclose(_run(scheduled(function, CPU)), _run(function), rtol=1e-5, atol=1e-5)


def test_a_chain_becomes_one_pass_on_all_cores():
    plain, text = (
        str(each) for each in (_function(*OPERATORS["elementwise"]), scheduled(_function(*OPERATORS["elementwise"]), CPU))
    )
    assert plain.count("T.sblock(") > text.count("T.sblock(")
    assert "T.parallel" not in plain
    assert "T.parallel" in text
    assert "T.vectorized" in text


def test_what_is_scheduled_stays():
    function = _function(relax.op.nn.relu).with_attr("tirx.is_scheduled", 1)
    assert scheduled(function, CPU).same_as(function)
