"""`gausstune compile` and `benchmark` on a network of a few thousand operations, from its file on."""

import json
from argparse import Namespace
from pathlib import Path

import pytest
import tvm

from tests.tvm_bridge.network.small_network import small_network
from tvm_bridge.cli import main
from tvm_bridge.commands.benchmark import _folder


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


def test_latencies_are_kept_beside_the_tuning_that_they_are_of(tmp_path):
    def kept(layout: str | None, *folders: Path) -> Path | None:
        return _folder(Namespace(records=list(folders), layout=layout))

    plain, converted, bare = (tmp_path / name for name in ("plain", "converted", "bare"))
    for folder in (plain, converted, bare):
        folder.mkdir()
    (plain / "network.json").write_text(json.dumps({"asked": {}}))
    (converted / "network.json").write_text(json.dumps({"asked": {"layout": "NHWC"}}))
    assert (kept(None, plain), kept("NHWC", converted), kept("NHWC", bare)) == (plain, converted, bare)
    assert kept("NHWC", plain) is None
    assert kept(None, converted) is None
    assert kept("chosen", plain) is None
    assert kept("chosen", plain, converted) is None
    assert kept(None, plain / "records.jsonl") is None
    assert kept(None) is None
