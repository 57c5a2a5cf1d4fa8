"""The picture has a curve for every method, however many; the tables are written by the stages in `test_cuda_comparison`."""

import pytest

from experiments.cuda_comparison_report import device_of, draw
from experiments.cuda_comparison_rows import METASCHEDULE, Row


def test_more_methods_than_colours_are_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed")
    searched = {f"method {number}": [1.0, 2.0 + number] for number in range(25)} | {METASCHEDULE: [0.0, 3.0]}
    row = Row("resnet-18 conv0", "dense and pointwise", {}, searched, {"cuDNN": 5.0}, {})
    draw({"all": [row]}, (64, 400), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_the_device_is_told_with_the_range_of_its_clocks_and_without_what_nobody_said():
    states = [
        {name: value for name in ("sm_mhz", "most_sm_mhz", "memory_mhz", "celsius")}
        | {"watts": None, "driver": "1", "cuda": "2"}
        for value in (5.0, 7.0)
    ]
    last = {
        "first": {"device": "a GPU", "states": [*states, "there is no nvidia-smi on the path"]},
        "second": {"device": "a GPU", "states": [], "torch": {"torch": "2.11"}},
    }
    told = device_of(last)
    assert (told["device"], told["driver"], told["cuda"], told["torch"]) == ("a GPU", "1", "2", {"torch": "2.11"})
    assert told["seen"] == {name: [5.0, 7.0] for name in ("sm_mhz", "most_sm_mhz", "memory_mhz", "celsius")}
