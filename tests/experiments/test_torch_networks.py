"""PyTorch's networks are those of Relax, weight by weight; an interpreter without PyTorch is refused."""

import itertools
import shutil
import sys

import numpy as np
import pytest

from experiments.torch_networks import MODES, TorchForm, TorchNetwork
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


def test_a_form_and_a_device_reach_the_interpreter(tmp_path):
    python = tmp_path / "python"
    python.write_text(
        f"#!{sys.executable}\n"
        "import json, sys\n"
        "settings = json.loads(sys.argv[2])\n"
        "told = ', '.join(f'{name}={settings[name]}' for name in ('mode', 'channels_last', 'tf32', 'threads'))\n"
        "print(json.dumps({'torch': told, 'device': settings['device']}), flush=True)\n"
        "for line in sys.stdin:\n"
        "    print(json.dumps([0.5] * json.loads(line)['runs']), flush=True)\n"
    )
    python.chmod(0o755)
    form = TorchForm("max-autotune", channels_last=True, tf32=True)
    with TorchNetwork(str(python), "alexnet", threads=3, device="cuda", form=form) as network:
        assert network.version == "mode=max-autotune, channels_last=True, tf32=True, threads=3"
        assert network.device == "cuda"
        assert network.seconds(2) == [0.5, 0.5]


def test_forms_are_told_apart():
    forms = [TorchForm(*form) for form in itertools.product([None, *MODES], [False, True], [False, True])]
    assert str(forms[0]) == "pytorch"
    assert str(TorchForm("default", channels_last=True, tf32=True)) == "pytorch, compiled, channels last, TF32"
    assert len(set(map(str, forms))) == len(forms)


@pytest.mark.parametrize("form", [TorchForm(), TorchForm(channels_last=True), TorchForm("default")], ids=str)
def test_outputs_are_those_of_relax(form):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    if form.mode and not shutil.which("g++"):
        pytest.skip("PyTorch compiles with a C++ compiler")
    data = np.random.default_rng(0).standard_normal((1, 3, 32, 32), np.float32)
    with TorchNetwork(sys.executable, "squeezenet-v1.1", image=32, seed=4, form=form) as network:
        output = network.output(data)
        assert len(network.seconds(3)) == 3
    (expected,) = run(models.build("squeezenet-v1.1", image=32, seed=4), data)
    np.testing.assert_allclose(output, expected, rtol=1e-4)
