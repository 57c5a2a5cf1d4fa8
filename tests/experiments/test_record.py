"""The recorder measures each layer once, into one compressed log a network, and goes on where it was."""

import gzip

import pytest

import tvm_bridge as bridge
from experiments import record
from tvm_bridge.measure.base import ErrorCategory, Measurement, Measurer


class Pretended(Measurer):
    """Answers at once; refuses one layer."""

    def __init__(self, refused=None):
        self.refused = refused
        self.asked = 0

    def device(self, task):
        return "pretended"

    def stream(self, task, configs):
        for position in range(len(configs)):
            self.asked += 1
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
        assert measurer.asked == (5 + 18) * 4
    for network, layers in (("alexnet", 5), ("squeezenet-v1.1", 18)):
        path = tmp_path / f"{network}.jsonl.gz"
        assert len(bridge.read_records(path)) == layers * 4
        assert path.read_bytes() == gzip.compress(gzip.decompress(path.read_bytes()), mtime=0)  # one member


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
        (["--layers", "conv99"], "--layers: none of conv99 is in alexnet, squeezenet-v1.1"),
        (["--target", "opencl"], "target: kind 'opencl' is not supported"),
    ],
)
def test_wrong_input_is_one_line(run, arguments, message):
    code, output = run(Pretended(), *arguments)
    assert code == 2
    assert output.err.count("\n") == 1
    assert message in output.err
