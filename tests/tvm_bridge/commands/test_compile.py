"""`gausstune compile` and `benchmark` on a network of a few thousand operations, from its file on."""

import json

import pytest
import tvm

from tests.tvm_bridge.network.small_network import small_network
from tvm_bridge.cli import main


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "small.json"
    path.write_text(tvm.ir.save_json(small_network().module))
    return str(path)


def test_an_untuned_network_is_compiled_and_says_so(model, tmp_path, capsys):
    library = tmp_path / "small.so"
    assert main(["compile", model, "-o", str(library)]) == 0
    assert capsys.readouterr().out == f"{library}: 0 of 7 functions run under a tuned schedule\n"
    assert library.stat().st_size > 0


def test_latencies_are_printed_and_kept_beside_the_tuning(model, tmp_path, capsys):
    folder = tmp_path / "tuned"
    folder.mkdir()
    (folder / "records.jsonl").touch()
    assert main(["benchmark", model, "--log", str(folder), "--default-runs", "2"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("default: mean ")
    assert "2 runs" in printed
    assert json.loads((folder / "latency.jsonl").read_text())["what"] == "default"
