"""Recorded tasks answer what was recorded, and know which others can teach them."""

import numpy as np
import pytest

from experiments.recorded import Recorded, layers, records_folder, tables
from search import KnobSpace, Option, Source
from tests.records_folder import needs_records


def recorded(device: str, kind: str, name: str) -> Recorded:
    space = KnobSpace([Option("a", tuple(range(10))), Option("b", (1, 2, 4))])
    rows = space.from_index([3, 7, 11, 20])
    return Recorded(device, kind, name, Source(name, space.confine(rows), rows, np.array([1.0, 0.0, 3.0, 2.0])))


def test_throughput_is_looked_up_in_any_order():
    task = recorded("gpu", "kernel", "kernel")
    np.testing.assert_array_equal(task.throughput_of(task.source.knobs[[2, 0, 3]]), [3.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("other", "related"),
    [
        (("gpu", "conv2d", "layer 1"), False),  # itself
        (("gpu", "conv2d", "layer 2"), True),
        (("other gpu", "conv2d", "layer 1"), True),
        (("other gpu", "conv2d", "layer 2"), False),
        (("gpu", "matmul", "layer 2"), False),
    ],
)
def test_the_same_kernel_elsewhere_and_other_layers_here_are_history(other, related):
    assert recorded("gpu", "conv2d", "layer 1").related(recorded(*other)) == related


@needs_records
def test_tables_are_exhaustive():
    tasks = {(task.kind, task.device): task for task in tables()}
    convolution = tasks["convolution", "a100"]
    assert len(convolution.source.knobs) == 4362
    assert sorted(device for kind, device in tasks if tasks[kind, device].related(convolution)) == ["a4000", "w6600"]
    np.testing.assert_array_equal(convolution.throughput_of(convolution.source.knobs), convolution.source.throughput)


@needs_records
def test_refused_configurations_never_ran():
    for layer in layers("gtx1650", "vgg-16")[:3]:
        assert (layer.y[~layer.admitted] == 0).all()
        assert 0 < layer.unbiased.sum() < len(layer.y)


def test_a_missing_folder_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("GAUSSTUNE_RECORDS", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="GAUSSTUNE_RECORDS"):
        records_folder()
