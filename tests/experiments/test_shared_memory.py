"""More shared memory adds what was refused for want of it alone, and nothing is lost by it."""

from dataclasses import replace

import numpy as np
import pytest

from experiments import shared_memory
from experiments.shared_memory import Counts, counts, main, table
from tvm_bridge import networks
from tvm_bridge.target import Target
from tvm_bridge.task import task_of


def target(arch):
    return Target.parse({"kind": "cuda", "arch": arch}).resolve()


@pytest.fixture
def workload():
    return replace(networks.layer("alexnet", "conv3").workload, layout="NHWC")


def test_small_space_is_counted_out(workload):
    space = task_of(workload, target("sm_90")).space
    rows = space.from_index(np.arange(space.product))
    found = counts(workload, target("sm_90"))
    assert (found.size, found.looked_at) == (space.product, space.product)
    assert found.admitted == np.asarray(space.valid(rows)).sum()


def test_large_space_is_estimated_always_alike(workload, monkeypatch):
    exact = counts(workload, target("sm_90"))
    monkeypatch.setattr(shared_memory, "COUNTED", 1000)
    monkeypatch.setattr(shared_memory, "DRAWN", 1 << 12)
    drawn = counts(workload, target("sm_90"))
    assert drawn == counts(workload, target("sm_90"))
    assert (drawn.size, drawn.looked_at) == (exact.size, 1 << 12)
    assert drawn.admitted * drawn.scale == pytest.approx(exact.admitted, rel=0.03)


def test_more_shared_memory_never_refuses_more(workload):
    every = [counts(workload, target(arch)) for arch in ("sm_61", "sm_75", "sm_86", "sm_80", "sm_90")]
    assert len({found.admitted for found in every}) == 1
    assert every[0].with_more == every[0].admitted  # of a block, sm_61 has what a kernel can declare
    assert [found.with_more for found in every] == sorted(found.with_more for found in every)
    assert every[-1].with_more > every[0].with_more


def test_table_weighs_spaces_by_their_size():
    rows = table([("two", [Counts(100, 100, 50, 75), Counts(900, 90, 90, 90)])], target("sm_90")).splitlines()
    assert rows[-1] == "| two | 2 | 1e+03 | 95.0% | 97.5% | +25.0% | +50.0% | 1 |"


def test_wrong_input_is_one_line(capsys):
    assert main(["--networks", "alexnett"]) == 2
    assert "network: 'alexnett' is not one of" in capsys.readouterr().err
