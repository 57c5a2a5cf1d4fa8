"""PyTorch's networks are those of Relax, weight by weight; an interpreter without PyTorch is refused."""

import sys

import numpy as np
import pytest

from experiments.torch_networks import TorchNetwork
from tests.tvm_bridge.relax_run import run
from tvm_bridge import models


def test_an_interpreter_that_cannot_run_the_network_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"python: /nowhere/python cannot run alexnet in PyTorch"):
        TorchNetwork("/nowhere/python", "alexnet")
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\n")
    python.chmod(0o755)
    with pytest.raises(ValueError, match=r"cannot run alexnet in PyTorch: .* process ended"):
        TorchNetwork(str(python), "alexnet")


@pytest.mark.parametrize("channels_last", [False, True])
def test_outputs_are_those_of_relax(channels_last):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    data = np.random.default_rng(0).standard_normal((1, 3, 32, 32), np.float32)
    with TorchNetwork(sys.executable, "squeezenet-v1.1", image=32, seed=4, channels_last=channels_last) as network:
        output = network.output(data)
        assert len(network.seconds(3)) == 3
    (expected,) = run(models.build("squeezenet-v1.1", image=32, seed=4), data)
    np.testing.assert_allclose(output, expected, rtol=1e-4)
