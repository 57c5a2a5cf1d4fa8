"""A function that JAX exports gives the same in Relax, or is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.extend.mlir import ir
from tvm import relax

from tests.tvm_bridge.relax_run import run
from tvm_bridge.network import stablehlo


def exported(function, *arrays):
    return export.export(jax.jit(function))(*arrays)


def noise(*shape):
    return np.random.default_rng(shape).standard_normal(shape, np.float32)


def operators(module):
    bindings = module["main"].body.blocks[0].bindings
    return [each.value.op.name for each in bindings if isinstance(each.value, relax.Call)]


def network(data):
    """Layers as Flax writes them: convolution, batch normalisation, pooling, a depthwise convolution, an addition, dense."""
    axes = ("NHWC", "HWIO", "NHWC")
    data = jax.lax.conv_general_dilated(data, noise(3, 3, 3, 8), (1, 1), "SAME", dimension_numbers=axes) + noise(8)
    scale = jax.lax.rsqrt(jnp.asarray(noise(8) ** 2 + 1).reshape(1, 1, 1, 8) + 1e-5)
    data = jax.nn.relu((data - noise(1, 1, 1, 8)) * scale)
    data = jax.lax.reduce_window(data, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    means = jax.lax.reduce_window(data, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4
    kernel = noise(3, 3, 1, 8)
    deep = jax.lax.conv_general_dilated(data, kernel, (2, 2), "SAME", dimension_numbers=axes, feature_group_count=8)
    data = means + jax.nn.relu6(deep)
    return jax.nn.softmax(data.reshape(len(data), -1) @ noise(128, 10) + noise(10))


def test_a_network_gives_the_same():
    data = noise(2, 16, 16, 3)
    (output,) = run(stablehlo.from_artifact(exported(network, data).mlir_module_serialized), data)
    np.testing.assert_allclose(output, jax.jit(network)(data), atol=1e-4)


def test_biases_and_relus_stay_as_small_as_they_are():
    module = stablehlo.from_text(exported(network, noise(1, 16, 16, 3)).mlir_module())
    assert operators(module).count("relax.nn.conv2d") == 2
    assert "relax.broadcast_to" not in operators(module)


def test_operators_give_the_same():
    """All at once, since compiling is what takes time."""
    kernel = noise(8, 3, 3, 3)

    def various(x, y, images):
        lower, upper = jnp.zeros((4, 4)), jax.lax.pad(x, 1.5, ((0, 1, 0), (1, 0, 0)))
        smooth = jax.nn.gelu(y, approximate=False) + jax.nn.sigmoid(y) + jnp.tanh(y) * jnp.sqrt(jnp.abs(y))
        convolved = jax.lax.conv_general_dilated(images, kernel, (2, 1), ((1, 0), (2, 1)), rhs_dilation=(1, 2))
        return (
            jnp.where(upper > lower, upper, x.sum()),
            jnp.concatenate([smooth[:, ::2], -smooth], 1),
            jnp.broadcast_to(x[:, None, :], (3, 4, 3)).reshape(-1),
            jnp.einsum("abk,ckb->ac", jnp.stack([x, y]), jnp.stack([y, x])),
            jnp.einsum("bik,bkj->bji", jnp.stack([x, y]), jnp.stack([y, x])),
            jax.lax.reduce_window(convolved, -jnp.inf, jax.lax.max, (1, 1, 3, 2), (1, 1, 2, 1), "VALID"),
            (x.T.astype(jnp.int32) * 2).astype(jnp.float32) + np.arange(3, dtype="float32")[:, None],
            jnp.exp(jnp.var(x, 0)) + jnp.max(y, 1) ** 3.0,
        )

    arrays = noise(3, 3), 2 * noise(3, 3), noise(1, 3, 9, 11)
    outputs = run(stablehlo.from_artifact(exported(various, *arrays).mlir_module_serialized), *arrays)
    for output, expected in zip(outputs, jax.jit(various)(*arrays), strict=True):
        np.testing.assert_allclose(output, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda x: jnp.sort(x, 0), "stablehlo.sort"),
        (lambda x: x.astype(jnp.bfloat16), "type bf16 is not supported"),
        (lambda x: jnp.flip(x, 0), "stablehlo.reverse"),
        (lambda x: jax.lax.reduce_window(x, 0.5, jax.lax.max, (1, 1, 2, 2), (1, 1, 1, 1), "SAME"), "this start"),
        (lambda x: jax.lax.conv_transpose(x, x, (2, 2), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW")), "dilated data"),
    ],
)
def test_what_is_not_read_right_is_refused(function, what):
    artifact = exported(function, noise(2, 2, 2, 2)).mlir_module_serialized
    with pytest.raises(ValueError, match=what):
        stablehlo.from_artifact(artifact)


def test_open_shapes_are_refused():
    batch = jax.ShapeDtypeStruct(export.symbolic_shape("batch, 3"), jnp.float32)
    with pytest.raises(ValueError, match="dynamic shape"):
        stablehlo.from_artifact(exported(lambda x: x + 1, batch).mlir_module_serialized)


@pytest.mark.parametrize("text", ["nothing", "module {func.func @main("])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match="it is not StableHLO") as error:
        stablehlo.from_text(text)
    assert isinstance(error.value.__cause__, ir.MLIRError)


def test_a_module_without_main_is_refused():
    text = "module { func.func @other(%arg0: tensor<2xf32>) -> tensor<2xf32> { return %arg0 : tensor<2xf32> } }"
    with pytest.raises(ValueError, match="its functions are other; one must be 'main'"):
        stablehlo.from_text(text)
