"""The recorder measures each layer once, into compressed logs of networks, in turns, and goes on where it was."""

import gzip
import itertools
import math

import pytest

import tvm_bridge as bridge
from experiments import layer_recording, log, record
from tvm_bridge import networks
from tvm_bridge.measure.base import ErrorCategory, Measurement, Measurer
from tvm_bridge.target import Target
from tvm_bridge.task import task_of


class Pretended(Measurer):
    """Answers at once; refuses one layer."""

    def __init__(self, refused=None):
        self.refused = refused
        self.asked = 0
        self.labels, self.operators = [], []
        self.when_asked = lambda times: None

    def device(self, task):
        return "pretended"

    def stream(self, task, configs):
        for position in range(len(configs)):
            self.asked += 1
            self.when_asked(self.asked)
            self.labels.append(task.label)
            self.operators.append(task.operator)
            if task.label == self.refused:
                yield position, Measurement((), ErrorCategory.RUN_TIMEOUT, "too slow", device="pretended")
            else:
                yield position, Measurement((1e-3,), device="pretended")


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    def run(measurer, *arguments):
        monkeypatch.setattr(record, "measurer", lambda _: measurer)
        code = record.main(
            ["--networks", "alexnet", "squeezenet-v1.1", "--configurations", "3", "--out", str(tmp_path), *arguments]
        )
        return code, capsys.readouterr()

    return run


def test_every_layer_is_recorded_once_and_nothing_twice(run, tmp_path):
    measurer = Pretended()
    for _ in range(2):
        code, _ = run(measurer)
        assert code == 0
        assert measurer.asked == (5 + 18) * 5  # one of them again
    for network, layers in (("alexnet", 5), ("squeezenet-v1.1", 18)):
        path = tmp_path / f"{network}.jsonl.gz"
        assert len(bridge.read_records(path)) == layers * 4
        assert path.read_bytes() == gzip.compress(gzip.decompress(path.read_bytes()), mtime=0)  # one member


def test_layers_take_turns_and_the_first_that_worked_is_measured_again(run, tmp_path, monkeypatch):
    monkeypatch.setattr(layer_recording, "TURN", 2)
    measurer = Pretended()
    arguments = ["--networks", "alexnet", "--layers", "conv3", "conv4", "--configurations", "1", "alexnet=5"]
    for _ in range(2):  # the second time there is nothing to do
        code, _ = run(measurer, *arguments)
        assert code == 0
    assert [label for label, _ in itertools.groupby(measurer.labels)] == ["alexnet conv4", "alexnet conv3"] * 3
    records = bridge.read_records(tmp_path / "alexnet.jsonl.gz")
    noise = bridge.read_records(tmp_path / "noise" / "alexnet.jsonl.gz")
    assert len(records) == len({(record.key, record.index) for record in records}) == 2 * (1 + 5)
    assert len(noise) == 2 * 3
    for key, again in itertools.groupby(noise, lambda record: record.key):
        assert {record.index for record in again} == {next(r.index for r in records if r.key == key and r.config is not None)}


def test_layouts_follow_each_other_into_logs_of_their_own(run, tmp_path):
    measurer = Pretended()
    code, _ = run(measurer, "--networks", "alexnet", "--layers", "conv5", "--layout", "NHWC", "NCHW", "--enlarged")
    assert code == 0
    assert [operator for operator, _ in itertools.groupby(measurer.operators)] == ["conv2d_nhwc", "conv2d_nchw"]
    for name, operator in (("alexnet-nhwc-enlarged", "conv2d_nhwc"), ("alexnet-enlarged", "conv2d_nchw")):
        records = bridge.read_records(tmp_path / f"{name}.jsonl.gz")
        assert {record.key.operator for record in records} == {operator}
        assert any("winograd" in record.config for record in records if record.config)


def test_time_that_is_over_loses_nothing(run, tmp_path, monkeypatch):
    measurer = Pretended()
    with monkeypatch.context() as patch:
        measurer.when_asked = lambda times: times == 7 and patch.setattr("time.perf_counter", lambda: math.inf)
        code, output = run(measurer, "--networks", "alexnet", "--minutes", "1")
    assert code == 0
    assert "time is over, 4 layers are not complete; the same command goes on" in output.out
    assert len(bridge.read_records(tmp_path / "alexnet.jsonl.gz")) == 4 + 2  # and one was measured again
    measurer.when_asked = lambda times: None
    run(measurer, "--networks", "alexnet")
    assert measurer.asked == 5 * 5
    assert len(bridge.read_records(tmp_path / "alexnet.jsonl.gz")) == 5 * 4


def test_a_layer_of_several_networks_is_recorded_once_with_the_most_configurations():
    layers = record.chosen(["resnet-50", "resnet-18"], ["conv0", "rb1-1-conv2"], {"": 3, "resnet-18": 10})
    assert [(network, layer.name, number) for network, layer, number in layers] == [
        ("resnet-18", "conv0", 10),
        ("resnet-18", "rb1-conv1", 3),
    ]


def test_states_of_a_gpu_are_noted(run, tmp_path, monkeypatch):
    monkeypatch.setattr(layer_recording, "gpu_state", lambda: "no driver")
    run(Pretended(), "--networks", "alexnet", "--layers", "conv5", "conv4", "--target", "cuda -arch=sm_90")
    states = log.read(tmp_path / "device.jsonl")
    assert [(state["moment"], state["layer"]) for state in states] == [
        ("start", ""),
        ("again", "alexnet conv5"),
        ("again", "alexnet conv4"),
        ("end", ""),
    ]
    assert all(state["unknown"] == "no driver" and state["time"] > 0 for state in states)


def test_what_the_template_refuses_is_measured_beside_the_others(run, tmp_path, monkeypatch):
    monkeypatch.setattr(layer_recording, "gpu_state", lambda: "no driver")
    measurer = Pretended()
    arguments = ["--networks", "alexnet", "--layers", "conv5", "--target", "cuda -arch=sm_90"]
    for asked, refused in ((1 + 2 + 3 + 1, "2"), (1 + 2 + 3 + 1, "2"), (1 + 2 + 3 + 1 + 1, "3")):  # nothing twice
        assert run(measurer, *arguments, "--refused", refused)[0] == 0
        assert measurer.asked == asked
    space = task_of(networks.layer("alexnet", "conv5").workload, Target.parse("cuda -arch=sm_90")).space
    records = bridge.read_records(tmp_path / "refused" / "alexnet.jsonl.gz")
    rows = space.from_index([record.index for record in records])
    assert len({record.index for record in records}) == 3
    assert not space.valid(rows).any()
    assert [space.to_config(row) for row in rows] == [space.to_config(space.from_config(record.config)) for record in records]


@pytest.mark.parametrize("where", [[], ["--target", "cuda -arch=sm_90", "--rpc", "127.0.0.1:9190", "--key", "board"]])
def test_driver_is_asked_of_a_gpu_of_this_machine_alone(run, tmp_path, where):
    run(Pretended(), "--networks", "alexnet", "--layers", "conv5", *where)
    assert (tmp_path / "alexnet.jsonl.gz").exists()
    assert not (tmp_path / "device.jsonl").exists()


def test_layer_that_cannot_be_recorded_does_not_stop_the_others(run, tmp_path):
    code, output = run(Pretended("alexnet conv4"), "--networks", "alexnet")
    assert code == 1
    assert "record.py: alexnet conv4: all 3 trials failed: 3 x RUN_TIMEOUT (too slow)" in output.err
    assert {key.args for key in bridge.best_records(tmp_path / "alexnet.jsonl.gz")} == {
        bridge.read_records(tmp_path / "alexnet.jsonl.gz")[first].key.args for first in (0, 8, 12, 16)
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--networks", "alexnett"], "network: 'alexnett' is not one of"),
        (["--configurations", "3", "resnet-18=5"], "--configurations: resnet-18 is not among the networks alexnet, squeeze"),
        (["--configurations", "alexnet=0"], "'0' is not a whole number above 0"),
        (["--configurations", "=5"], "'=5' is not a number of configurations such as 64 or resnet-18=1000"),
        (["--refused", "1"], "--refused: templates for a CPU refuse what would be slow"),
        (["--seed", "-1"], "seed: -1 must lie in"),
        (["--layers", "conv99"], "--layers: none of conv99 is in alexnet, squeezenet-v1.1"),
        (["--target", "opencl"], "target: kind 'opencl' is not supported"),
    ],
)
def test_wrong_input_is_one_line(run, capsys, arguments, message):
    try:
        code, output = run(Pretended(), *arguments)
    except SystemExit as refused:
        code, output = refused.code, capsys.readouterr()
    assert code == 2
    assert output.err.count("\n") == 1
    assert message in output.err
