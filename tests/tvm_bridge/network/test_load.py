"""Whatever a network comes from, it is Relax with its weights as constants, and computes what its framework does."""

import sys

import jax
import numpy as np
import pytest
import tvm
from jax import export
from tvm import relax, tirx

from tests.tvm_bridge.relax_run import run
from tvm_bridge import models
from tvm_bridge.network.load import Network, load_network

TOLERANCE = 1e-4


def noise(*shape):
    return np.random.default_rng(shape).standard_normal(shape, np.float32) / 3


def module(name="main", extent=2, weights=None, inputs=None):
    """x + w; with the values of w beside it if given, and the number of inputs that are no weights if given."""
    builder = relax.BlockBuilder()
    x, w = (relax.Var(each, relax.TensorType((extent, 3), "float32")) for each in "xw")
    with builder.function(name, [x, w]):
        with builder.dataflow():
            output = builder.emit_output(builder.emit(relax.op.add(x, w)))
        builder.emit_func_output(output)
    built = builder.get()
    attributes = {} if inputs is None else {"num_input": inputs}
    attributes |= {} if weights is None else {"params": [tvm.runtime.tensor(weights)]}
    built[name] = built[name].with_attrs(attributes) if attributes else built[name]
    return built


def test_a_network_is_found_by_name():
    network = load_network("squeezenet-v1.1")
    assert network.name == "squeezenet-v1.1"
    assert network.inputs == (("data", (1, 3, 224, 224), "float32"),)
    tvm.ir.assert_structural_equal(network.module, load_network("squeezenet-v1.1", seed=0).module)
    with pytest.raises(ValueError, match="StructuralEqual"):
        tvm.ir.assert_structural_equal(network.module, load_network("squeezenet-v1.1", seed=1).module)


def test_a_module_is_taken_with_a_name_of_its_own():
    network = load_network(models.build("squeezenet-v1.1", batch=2, image=32), name="mine")
    assert network.name == "mine"
    assert network.inputs == (("data", (2, 3, 32, 32), "float32"),)


def test_weights_beside_the_module_become_constants_and_its_function_main():
    network = load_network(module("forward", weights=np.full((2, 3), 2, "float32"), inputs=1))
    assert network.inputs == (("x", (2, 3), "float32"),)
    (output,) = run(network.module, np.ones((2, 3), "float32"))
    np.testing.assert_array_equal(output, np.full((2, 3), 3))


def test_weights_as_inputs_are_refused():
    with pytest.raises(ValueError, match=r"source: the module takes 1 weights as inputs; .*BindParams"):
        load_network(module(inputs=1))


def test_other_functions_than_one_are_refused():
    both = tvm.IRModule({"main": module()["main"], "more": module("more")["more"]})
    with pytest.raises(ValueError, match=r"source: the module has the Relax functions main, more; it must have one"):
        load_network(both)
    with pytest.raises(ValueError, match=r"has no Relax function"):
        load_network(tvm.IRModule({}))


def test_open_shapes_are_filled_in_or_refused():
    n = tirx.Var("n", "int64")
    network = load_network(module(extent=n), shapes={"x": (5, 3)})
    assert [shape for _, shape, _ in network.inputs] == [(5, 3), (5, 3)]
    with pytest.raises(ValueError, match=r"source: its input x has the open shape \(n, 3\); .* shapes=\{'x': \(1, 3\)\}"):
        load_network(module(extent=n))
    with pytest.raises(ValueError, match=r"shapes: y not among the inputs, which are x, w"):
        load_network(module(extent=n), shapes={"y": (5, 3)})
    for shape in [(5, 4), (5,), (5, 3, 1)]:
        with pytest.raises(ValueError, match=r"shapes: .* does not fit x, which is \(n, 3\)"):
            load_network(module(extent=n), shapes={"x": shape})
    with pytest.raises(ValueError, match=r"shapes: \(6, 3\) does not fit w"):
        load_network(module(extent=n), shapes={"x": (5, 3), "w": (6, 3)})


def test_json_is_read_back(tmp_path):
    network = load_network(models.build("squeezenet-v1.1", image=32))
    path = tmp_path / "small.json"
    path.write_text(tvm.ir.save_json(network.module))
    again = load_network(path)
    assert again.name == "small"
    tvm.ir.assert_structural_equal(again.module, network.module)


@pytest.mark.parametrize("as_file", [False, True])
def test_a_jax_function_and_its_text(as_file, tmp_path):
    weight = noise(3, 4)

    def score(data):
        return jax.nn.relu(data @ weight)

    exported = export.export(jax.jit(score))(noise(2, 3))
    path = tmp_path / "score.mlir"
    path.write_text(exported.mlir_module())
    network = load_network(str(path) if as_file else exported)
    assert network.name == "score"
    assert network.inputs == (("arg0", (2, 3), "float32"),)
    tvm.ir.assert_structural_equal(network.module, load_network(path.read_text()).module)
    (output,) = run(network.module, noise(2, 3))
    np.testing.assert_allclose(output, score(noise(2, 3)), atol=TOLERANCE)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("resnet18", r"source: 'resnet18' is not one of alexnet, .*nor a file ending in \.onnx.* Did you mean 'resnet-18'\?"),
        ("missing.onnx", r"source: there is no file missing\.onnx"),
        ("saved.pt2", r"source: reading saved\.pt2 would run .*torch\.export\.load\('saved\.pt2'\)"),
        (3, r"source: int is not a network; give "),
    ],
)
def test_what_is_no_network_is_refused(source, said):
    with pytest.raises(ValueError, match=said):
        load_network(source)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("network.txt", "", r"ends in none of \.onnx or \.mlir or \.json"),
        ("network.json", "{}", r"network\.json cannot be imported: "),
        ("network.json", tvm.ir.save_json(tirx.IntImm("int32", 3)), r"it is a IntImm and not an IRModule"),
        ("network.mlir", "module", r"network\.mlir cannot be imported: it is not StableHLO"),
    ],
)
def test_files_that_hold_no_network_are_refused(name, content, said, tmp_path):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=said):
        load_network(path)


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "network.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install gausstune\[onnx\]"):
        load_network(tmp_path / "network.onnx")


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    """Writes conv, batch norm, ReLU, add, pooling and dense, for a batch."""
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")

    def write(batch):
        weights = {"w": noise(8, 3, 3, 3), "b": noise(8), "d": noise(8, 1, 3, 3), "g": noise(10, 128), "h": noise(10)}
        weights |= {"s": 1 + noise(8), "t": noise(8), "m": noise(8), "v": 1 + noise(8) ** 2}
        node = onnx.helper.make_node
        nodes = [
            node("Conv", ["input.1", "w", "b"], ["c"], pads=[1] * 4),
            node("BatchNormalization", ["c", "s", "t", "m", "v"], ["n"]),
            node("Relu", ["n"], ["r"]),
            node("Conv", ["r", "d"], ["q"], pads=[1] * 4, group=8),
            node("Add", ["q", "r"], ["a"]),
            node("MaxPool", ["a"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Flatten", ["p"], ["f"]),
            node("Gemm", ["f", "g", "h"], ["y"], transB=1),
        ]
        described = onnx.helper.make_tensor_value_info
        inputs = [described("input.1", onnx.TensorProto.FLOAT, [batch, 3, 8, 8])]
        outputs = [described("y", onnx.TensorProto.FLOAT, [batch, 10])]
        constants = [onnx.numpy_helper.from_array(each, name) for name, each in weights.items()]
        graph = onnx.helper.make_graph(nodes, "graph", inputs, outputs, constants)
        path = tmp_path_factory.mktemp("onnx") / "small.onnx"
        onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
        return path

    return write


def test_onnx_gives_what_onnx_runtime_does(onnx_file):
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    path, data = onnx_file(2), noise(2, 3, 8, 8)
    network = load_network(path)
    assert network.name == "small"
    assert network.inputs == (("input.1", (2, 3, 8, 8), "float32"),)
    (expected,) = runtime.InferenceSession(path).run(None, {"input.1": data})
    np.testing.assert_allclose(run(network.module, data)[0], expected, atol=TOLERANCE)


def test_onnx_with_an_open_batch_needs_a_shape(onnx_file):
    path = onnx_file("n")
    with pytest.raises(ValueError, match=r"source: its input input\.1 has the open shape \(n, 3, 8, 8\)"):
        load_network(path)
    assert load_network(path, shapes={"input.1": (4, 3, 8, 8)}).inputs == (("input.1", (4, 3, 8, 8), "float32"),)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of PyTorch about itself
def test_torch_export_gives_what_torch_does():
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    model = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(128, 10)).eval()
    data = torch.from_numpy(noise(2, 3, 8, 8))
    with torch.inference_mode(False):
        program = torch.export.export(model, (data,))
    network = load_network(program, name="small")
    assert isinstance(network, Network)
    assert [shape for _, shape, _ in network.inputs] == [(2, 3, 8, 8)]
    np.testing.assert_allclose(run(network.module, data.numpy())[0], model(data).detach().numpy(), atol=TOLERANCE)
