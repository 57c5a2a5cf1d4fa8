"""From a network's file to a faster library and a report, by the commands alone."""

import json
import re

import numpy as np
import pytest
import tvm

from tests.tvm_bridge.network.small_network import SHAPE, small_network
from tvm_bridge.cli import main
from tvm_bridge.network.database import FILES

MEASURING = ["--method", "random", "--min-repeat-ms", "1", "--builders", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network's file, and the folder of its tuning."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "small.json").write_text(tvm.ir.save_json(small_network().module))
    assert main(["network", str(folder / "small.json"), "--trials", "8", "--log", str(folder / "log"), *MEASURING]) == 0
    return folder


@pytest.mark.filterwarnings("ignore:small.*the default is kept")
def test_a_tuned_network_is_compiled_again_and_again(folder, capsys):
    given = [str(folder / "small.json"), "--log", str(folder / "log")]
    for _ in range(2):
        command = ["compile", *given, "-o", str(folder / "small.so"), "--export", str(folder / "database"), "--no-check"]
        assert main(command) == 0
    assert re.search("[1-4] of 7 functions run under a tuned schedule", capsys.readouterr().out)
    assert all((folder / "database" / name).stat().st_size for name in FILES)
    from tvm import relax

    data = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(folder / "small.so")), tvm.cpu())
    assert np.isfinite(machine["main"](tvm.runtime.tensor(data)).numpy()).all()


@pytest.mark.filterwarnings("ignore:small.*the default is kept")
def test_latencies_are_appended_and_shown(folder, capsys):
    given = [str(folder / "small.json"), "--log", str(folder / "log")]
    assert main(["benchmark", *given, "--runs", "3", "--default-runs", "2"]) == 0
    assert "default: mean" in capsys.readouterr().out
    lines = [json.loads(line) for line in (folder / "log" / "latency.jsonl").read_text().splitlines()]
    assert len({line["timestamp"] for line in lines}) == 1
    assert main(["report", str(folder / "log"), "-o", str(folder / "small.html")]) == 0
    page = (folder / "small.html").read_text()
    assert f"gausstune network {folder / 'small.json'}" in page
    assert "p99" in page


@pytest.mark.filterwarnings("ignore:small.*the default is kept")
def test_layouts_are_chosen_from_tunings_in_both(folder, capsys):
    network = str(folder / "small.json")
    command = ["compile", network, "--layout", "chosen", "-o", str(folder / "chosen.so"), "--no-check"]
    for logs in ([], ["--log", str(folder / "log")]):
        assert main([*command, *logs]) == 2
        assert "--layout: chosen chooses by --log" in capsys.readouterr().err
    assert main(["network", network, "--layout", "NHWC", "--trials", "8", "--log", str(folder / "nhwc"), *MEASURING]) == 0
    assert json.loads((folder / "nhwc" / "network.json").read_text())["asked"]["layout"] == "NHWC"
    assert "conv2d_nhwc" in (folder / "nhwc" / "records.jsonl").read_text()
    assert main(["network", network, "--layout", "NHWC", "--trials", "9", "--log", str(folder / "log"), *MEASURING]) == 2
    assert "holds a tuning of the network as it comes and not in NHWC" in capsys.readouterr().err
    assert main([*command, "--log", str(folder / "log"), "--log", str(folder / "nhwc")]) == 0
    assert re.search("[1-4] of [0-9]+ functions run under a tuned schedule", capsys.readouterr().out)
    assert (folder / "chosen.so").stat().st_size
    assert (folder / "log" / "transpositions.jsonl").exists()
