"""A layer's row has everybody's throughput; means are over the layers that all methods have tuned."""

import pytest

from experiments.cuda_comparison_rows import METASCHEDULE, geometric_mean, grouped, means, methods, rows_of, shared
from experiments.cuda_rivals import kernel_name
from experiments.device_judgement import UNTUNED
from experiments.torch_cuda_convolution import EAGER, KERNELS

DENSE, DEPTHWISE = ("resnet-18", "rb1-conv1"), ("mobilenet-v1", "sp-7-dp1")


def tuning(layer, method, best, history="none", seed=0):
    return {
        **{"network": layer[0], "layer": layer[1], "task": " ".join(layer), "method": method, "history": history},
        **{"seed": seed, "best": best},
    }


def judgement(layer, **gflops):
    torch = {name: [100.0 + place] for place, name in enumerate((*EAGER, *KERNELS))}
    theirs = {kernel_name(64): [40.0], kernel_name(400): [50.0, 49.0]}
    return {
        "task": " ".join(layer),
        "gflops": {UNTUNED: [4.0, 5.0]} | theirs | torch | gflops,
        "implementations": {"cudnn": "implicit_gemm"},
    }


@pytest.fixture
def rows():
    lines = [
        tuning(DENSE, "random", [10.0, 20.0]),
        tuning(DENSE, "random", [30.0, 40.0], seed=1),
        tuning(DENSE, "dgp-transfer", [80.0, 200.0], "same"),
        tuning(DENSE, "gausstune", [80.0, 100.0], "same"),
        tuning(DEPTHWISE, "random", [40.0, 120.0]),
    ]
    return rows_of(lines, [judgement(DENSE), judgement(DEPTHWISE)], (64, 400))


def test_a_row_has_means_over_seeds_and_the_faster_layout(rows):
    dense, depthwise = rows
    assert dense.searched == {
        "random": [20.0, 30.0],
        "dgp-transfer": [80.0, 200.0],
        "gausstune, taught": [80.0, 100.0],
        METASCHEDULE: [40.0, 50.0],
    }
    assert (dense.seeds["random"], depthwise.seeds["random"]) == (2, 1)
    assert dense.fixed == {"untuned": 5.0, "PyTorch": 101.0, "PyTorch, TF32": 103.0, "cuDNN": 105.0, "cuDNN, TF32": 107.0}
    assert (dense.group, depthwise.group) == ("dense and pointwise", "depthwise")
    assert dense.kernels == {"cudnn": "implicit_gemm"}


def test_a_multiple_is_after_as_many_measurements(rows):
    dense, _ = rows
    assert dense.multiple("dgp-transfer", METASCHEDULE, 0) == 2.0
    assert dense.multiple("dgp-transfer", METASCHEDULE, 1) == 4.0
    assert dense.multiple("dgp-transfer", "untuned", 1) == 40.0
    assert dense.multiple("dgp-transfer", "roofline", 1) is None


def test_means_are_over_the_layers_that_all_methods_have_tuned(rows):
    assert methods(rows) == ["random", "dgp-transfer", "gausstune, taught"]
    assert shared(rows) == rows[:1]
    found = means(rows, (64, 400))
    assert found["random"]["GFLOPS"] == pytest.approx([20.0, 30.0])
    assert found["random"][f"/ {METASCHEDULE}"] == pytest.approx([0.5, 0.6])
    assert found[METASCHEDULE]["/ cuDNN"] == pytest.approx([40 / 105, 50 / 105])
    assert f"/ {METASCHEDULE}" not in found[METASCHEDULE]
    assert list(grouped(rows)) == ["all", "dense and pointwise", "depthwise"]
    assert means(grouped(rows)["depthwise"], (64, 400))["random"]["GFLOPS"] == pytest.approx([40.0, 120.0])


def test_where_nobody_is_beside_there_is_no_multiple():
    bare = {"task": " ".join(DENSE), "gflops": {UNTUNED: [0.0]}}
    (row,) = rows_of([tuning(DENSE, "random", [10.0, 20.0])], [bare], (64, 400))
    assert means([row], (64, 400)) == {
        "random": {"GFLOPS": pytest.approx([10.0, 20.0])}
        | {f"/ {other}": [None, None] for other in (METASCHEDULE, "cuDNN", "cuDNN, TF32", "untuned")}
    }


def test_metaschedule_that_was_judged_after_other_budgets_is_left_out():
    (row,) = rows_of([tuning(DENSE, "random", [10.0, 20.0, 30.0])], [judgement(DENSE)], (64, 128, 400))
    assert list(row.searched) == ["random"]


def test_a_mean_with_a_failure_is_nothing():
    assert geometric_mean([4.0, 9.0]) == pytest.approx(6.0)
    assert geometric_mean([4.0, 0.0]) == 0.0
    assert geometric_mean([]) is None
