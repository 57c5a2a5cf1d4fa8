"""A network for a GPU: every operator is a kernel, in CUDA code made here; what cannot be compiled is named."""

import os
import re
from dataclasses import replace

import jax
import numpy as np
import pytest
import tvm
from tvm import relax

from tests.tvm_bridge.network.small_network import SHAPE, small_network
from tvm_bridge.measure.base import Measurement
from tvm_bridge.network import executable
from tvm_bridge.network.compile import compile_network
from tvm_bridge.network.database import open_database
from tvm_bridge.network.extract import extract_tasks
from tvm_bridge.network.load import Network
from tvm_bridge.records import Record

GPU = {"kind": "cuda", "arch": "sm_80"}


def pooling():
    """A network of one operator, which no template covers."""
    builder = relax.BlockBuilder()
    data = relax.Var("data", relax.TensorType(SHAPE, "float32"))
    with builder.function("main", [data]):
        with builder.dataflow():
            result = builder.emit_output(relax.op.nn.max_pool2d(data, pool_size=2, strides=2))
        builder.emit_func_output(result)
    return extract_tasks(Network(builder.get(), "pooling"), GPU)


def records(extraction):
    """A valid configuration of every task, with short code, of which it is pretended that it takes a millisecond."""
    found = []
    for each in extraction.tasks:
        configs = map(each.task.space.to_config, each.task.space.sample(jax.random.key(0), 20))
        config = min(configs, key=lambda config: (config["auto_unroll_max_step"], config.get("stages", 0)))
        index = int(each.task.space.to_index(each.task.space.from_config(config)[None])[0])
        found.append(Record(each.task.key, index, config, Measurement((1e-3,))))
    return found


def kernels(module):
    """The names of the kernels in the CUDA code of a module and of what it imports."""
    own = re.findall(r"(\w+)_kernel\(", module.inspect_source()) if module.kind == "cuda" else []
    return {*own, *(name for each in module.imports for name in kernels(each))}


def test_every_operator_of_a_network_is_a_kernel():
    extraction = extract_tasks(small_network(), GPU)
    compiled = compile_network(extraction, log=records(extraction), check=False)
    assert set(compiled.tuned) == {name for each in extraction.tasks for name in each.functions}
    called = set(re.findall(r"call +(\w+) ", compiled.executable.as_text()))
    assert called == set(extraction.calls) - {"reshape"}  # which the virtual machine does
    assert called <= kernels(compiled.executable.mod)


@pytest.mark.skipif(not os.path.exists("/dev/nvidia0"), reason="this machine has no GPU")
def test_a_network_on_a_gpu_computes_what_it_does_on_a_cpu():
    data = np.random.default_rng(1).normal(size=SHAPE).astype("float32")
    expected = compile_network(small_network(), "llvm")(data)
    here = extract_tasks(small_network(), "cuda")
    for compiled in (compile_network(here), compile_network(here, log=records(here), check=False)):
        np.testing.assert_allclose(compiled(data), expected, rtol=1e-4, atol=1e-3)


def test_an_operator_without_threads_is_named():
    extraction = pooling()
    module = tvm.IRModule(extraction.module.functions)
    operator = module.get_global_var("max_pool2d")
    module.update_func(operator, module[operator].with_attr("tirx.is_scheduled", 1))  # by somebody who gave it none
    with pytest.raises(RuntimeError, match=r"^pooling cannot be compiled for cuda -arch=sm_80: no schedule .* max_pool2d$"):
        compile_network(replace(extraction, module=module))


def test_an_operator_that_a_compiler_refuses_is_named(monkeypatch):
    def refused(*_, **__):
        raise RuntimeError("its code\nCompilation error:\nptxas error: too much shared data\nptxas info: more")

    monkeypatch.setattr(tvm, "compile", refused)
    with pytest.raises(RuntimeError, match=r"sm_80: max_pool2d \(ptxas error: too much shared data\)$"):
        compile_network(pooling())


def test_others_schedules_copy_nothing_asynchronously(tmp_path, monkeypatch):
    seen, extraction = [], pooling()

    def compiled(*_, **__):
        seen.append("tirx.use_async_copy" in tvm.transform.PassContext.current().config)

    monkeypatch.setattr(tvm, "compile", compiled)
    compile_network(extraction)
    open_database(tmp_path)
    with pytest.warns(UserWarning, match="compiled untuned"):
        compile_network(extraction, database=tmp_path)
    assert seen == [True, False]


def test_networks_are_compiled_by_the_compiler_that_measuring_has(monkeypatch):
    monkeypatch.delenv("TVM_CUDA_COMPILE_MODE", raising=False)
    monkeypatch.setattr(executable, "compiler_environment", lambda _: {"TVM_CUDA_COMPILE_MODE": "nvcc"})
    seen, extraction = [], pooling()
    monkeypatch.setattr(tvm, "compile", lambda *_, **__: seen.append(os.environ.get("TVM_CUDA_COMPILE_MODE")))
    compile_network(extraction)
    monkeypatch.setenv("TVM_CUDA_COMPILE_MODE", "nvrtc")  # who says another is heard
    compile_network(extraction)
    assert seen == ["nvcc", "nvrtc"]
    assert os.environ["TVM_CUDA_COMPILE_MODE"] == "nvrtc"
