"""Algorithms merged in one space: each configuration belongs to one, and parts have all of them."""

import jax
import numpy as np
import pytest

from search import KnobSpace
from tests.tvm_bridge.templates import cpu_checks as checks
from tvm_bridge import templates
from tvm_bridge.convolution import LAYOUTS, Conv2d
from tvm_bridge.templates.alternatives import AnyOf

WORKLOADS = [
    Conv2d((1, 16, 10, 10), (32, 16, 3, 3)),
    Conv2d((1, 16, 10, 10), (20, 16, 3, 3)),
    Conv2d((1, 16, 10, 10), (40, 16, 3, 3), (2, 2)),
    Conv2d((1, 16, 10, 10), (20, 16, 3, 3), layout="NHWC"),
    Conv2d((1, 16, 14, 14), (16, 1, 3, 3), padding=(1, 1, 1, 1), groups=16),
]


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: f"{workload.operator}-{workload.weight[0]}")
def test_a_valid_configuration_is_of_one_alternative_and_in_its_part(workload):
    space = templates.space(workload, checks.AVX512, enlarged=True)
    assert isinstance(space.predicate, AnyOf)
    assert len(space.predicate.alternatives) == len(space.parts) > 1
    random = np.random.default_rng(0).integers(0, space.shape, (1 << 14, len(space.shape)))
    rows = np.concatenate([space.sample(jax.random.key(0), 40), random])
    admitted = [alternative(space.choice(rows)) for alternative in space.predicate.alternatives]
    within = [np.all([np.isin(*pair) for pair in zip(rows.T, part, strict=True)], axis=0) for part in space.parts]
    np.testing.assert_array_equal(np.sum(admitted, axis=0), space.valid(rows))
    for alternative, part in zip(admitted, within, strict=True):
        assert alternative[:40].any()
        assert (part | ~alternative).all()
    assert np.sum(within, axis=0).max() == 1


@pytest.mark.parametrize("enlarged", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("depthwise", [False, True])
def test_parts_leave_nothing_out(enlarged, layout, depthwise):
    weight, groups = ((20, 1, 3, 3), 20) if depthwise else ((40, 20, 3, 3), 1)
    workload = Conv2d((1, 20, 14, 14), weight, padding=(1, 1, 1, 1), groups=groups, layout=layout)
    space = templates.space(workload, checks.AVX512, enlarged=enlarged)
    rows = KnobSpace(space.knobs, space.predicate).sample(jax.random.key(0), 200)
    within = [np.all([np.isin(*pair) for pair in zip(rows.T, part, strict=True)], axis=0) for part in space.parts]
    assert (np.sum(within, axis=0) == 1).all()
