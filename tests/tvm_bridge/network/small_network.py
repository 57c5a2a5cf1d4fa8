"""A residual network of a few thousand operations, with all that extraction meets: batch norms, a skip, a dense layer."""

from __future__ import annotations

import numpy as np
from tvm import relax

from tvm_bridge.network.load import Network

SHAPE = (1, 16, 6, 6)


def small_network(*, name: str = "small", seed: int = 0) -> Network:
    generator = np.random.default_rng(seed)

    def constant(*shape: int) -> object:
        return relax.const(generator.normal(size=shape).astype("float32"))

    def normalised(value: object) -> object:
        variance = relax.const(generator.uniform(0.5, 2, 16).astype("float32"))
        normal = relax.op.nn.batch_norm(
            value, constant(16), constant(16), constant(16), variance, axis=1, epsilon=0.1, training=False
        )
        return builder.emit(relax.TupleGetItem(builder.emit(normal), 0))

    builder = relax.BlockBuilder()
    data = relax.Var("data", relax.TensorType(SHAPE, "float32"))
    with builder.function("main", [data]):
        with builder.dataflow():
            first = builder.emit(relax.op.nn.relu(normalised(data)))
            value = builder.emit(relax.op.nn.conv2d(first, constant(16, 16, 3, 3), padding=1))
            value = builder.emit(relax.op.nn.relu(normalised(value)))
            for _ in range(2):
                value = builder.emit(relax.op.nn.conv2d(value, constant(16, 1, 3, 3), padding=1, groups=16))
                value = builder.emit(relax.op.nn.relu(value))
            value = builder.emit(relax.op.nn.conv2d(value, constant(16, 16, 3, 3), padding=1))
            value = builder.emit(relax.op.add(value, first))
            value = builder.emit(relax.op.nn.max_pool2d(value, pool_size=2, strides=2))
            value = builder.emit(relax.op.reshape(value, (1, 144)))
            value = builder.emit(relax.op.matmul(value, relax.op.permute_dims(constant(10, 144))))
            result = builder.emit_output(relax.op.add(value, constant(10)))
        builder.emit_func_output(result)
    return Network(builder.get(), name)
