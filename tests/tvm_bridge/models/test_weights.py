"""Weights depend on the seed and the place in the network alone, and keep the scale of what passes through them."""

import numpy as np
import pytest

from tvm_bridge import models
from tvm_bridge.models.layers import Layers
from tvm_bridge.models.weights import draw


@pytest.fixture(scope="module")
def nodes():
    return models.nodes("mobilenet-v1")


def test_the_same_seed_draws_the_same_and_another_does_not(nodes):
    for node in nodes[1:4]:
        again = draw(node, 5)
        for name, weight in draw(node, 5).items():
            np.testing.assert_array_equal(weight, again[name])
            assert not np.array_equal(weight, draw(node, 6)[name])


def test_layers_of_one_shape_have_weights_of_their_own(nodes):
    pointwise = [node for node in nodes if node.operator == "conv" and node.shape[1:] == (512, 14, 14)]
    assert not np.array_equal(draw(pointwise[-1], 0)["weight"], draw(pointwise[-3], 0)["weight"])


def test_the_image_changes_no_weight_of_a_convolution(nodes):
    small = models.nodes("mobilenet-v1", image=32)
    np.testing.assert_array_equal(draw(nodes[7], 0)["weight"], draw(small[7], 0)["weight"])


@pytest.mark.parametrize("groups", [1, 16])
def test_kernels_have_hes_variance(groups):
    net = Layers((1, 16, 8, 8))
    weight = draw(net.conv(net.nodes[0], 512, 3, groups=groups), 0)["weight"]
    assert weight.shape == (512, 16 // groups, 3, 3)
    assert weight.var() == pytest.approx(2 * groups / (16 * 9), rel=0.1)


def test_weights_are_those_that_the_operation_has():
    net = Layers((1, 4, 8, 8))
    convolved = net.conv(net.nodes[0], 6, 1, bias=False)
    normalised = net.batch_norm(convolved, variance=9.0)
    shapes = {name: each.shape for name, each in draw(normalised, 0).items()}
    assert shapes == dict.fromkeys(("scale", "shift", "mean", "variance"), (6,))
    assert set(draw(convolved, 0)) == {"weight"}
    assert draw(net.relu(normalised), 0) == {}
    assert draw(normalised, 0)["variance"].min() > 7
    assert all(each.dtype == np.float32 for each in draw(normalised, 0).values())
