"""The networks that are written down are those of the papers' tables, layer by layer."""

from collections import Counter

import pytest

from tests.tvm_bridge.models.workloads import convolutions, dense_layers
from tvm_bridge import models
from tvm_bridge.models import MODELS
from tvm_bridge.networks import NETWORKS, layers

TUNED = ("alexnet", "resnet-18", "vgg-16", "mobilenet-v1", "squeezenet-v1.1")
"""The networks of Sun et al. (DATE 2021, section V)."""

CONNECTED = {
    "alexnet": [(9216, 4096), (4096, 4096), (4096, 1000)],
    "resnet-18": [(512, 1000)],
    "vgg-16": [(25088, 4096), (4096, 4096), (4096, 1000)],
    "mobilenet-v1": [(1024, 1000)],
    "squeezenet-v1.1": [],
    "resnet-50": [(2048, 1000)],
}
"""The fully connected layers as published, (inputs, outputs)."""


def test_models_are_the_networks():
    assert set(MODELS) == set(NETWORKS)


@pytest.mark.parametrize("name", MODELS)
def test_convolutions_are_those_of_the_tables(name):
    assert convolutions(models.nodes(name)) == Counter({each.workload: each.count for each in layers(name)})


@pytest.mark.parametrize("name", MODELS)
def test_dense_layers_are_those_published(name):
    found = dense_layers(models.nodes(name))
    assert [(each.weight[1], each.weight[0]) for each in found.elements()] == CONNECTED[name]


def test_the_58_nodes_of_the_date_paper_are_the_convolutions_without_alexnets():
    """The paper counts "58 nodes" in all five networks, without saying how.

    Their distinct convolutions are 63: 5, 12, 9, 19 (the 19 layers of its figure 5) and 18, none of which two networks share.
    AlexNet's five are the difference; of the five, AlexNet alone was not among the networks that came with TVM 0.6.1.
    """
    distinct = {name: set(convolutions(models.nodes(name))) for name in TUNED}
    assert {name: len(each) for name, each in distinct.items()} == dict(zip(TUNED, (5, 12, 9, 19, 18), strict=True))
    assert len(set.union(*distinct.values())) == 63
    assert len(set.union(*(each for name, each in distinct.items() if name != "alexnet"))) == 58


@pytest.mark.parametrize("name", MODELS)
def test_batch_and_image_reach_every_layer(name):
    first, *_, last = models.nodes(name, batch=3, image=96)
    assert first.shape == (3, 3, 96, 96)
    assert last.shape == (3, 1000)
    assert all(node.shape[0] == 3 for node in models.nodes(name, batch=3, image=96))


def test_an_unknown_network_is_refused_with_a_suggestion():
    with pytest.raises(ValueError, match=r"network: 'resnet18' is not one of alexnet, .*Did you mean 'resnet-18'"):
        models.nodes("resnet18")


def test_an_image_that_a_window_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match=r"image: 32 is too small for the network: 1 pixels of it, padded by 0, reach a window of 3"
    ):
        models.nodes("alexnet", image=32)
    with pytest.raises(ValueError, match=r"batch, image: 0 and 224 must be positive"):
        models.nodes("alexnet", batch=0)
