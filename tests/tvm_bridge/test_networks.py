"""The layers of the papers' networks: their spaces to the digit, their multiply-adds and parameters as published."""

import gzip
import json

import pytest

from tests.records_folder import RECORDS, needs_records
from tvm_bridge import templates
from tvm_bridge.convolution import Conv2d
from tvm_bridge.networks import NETWORKS, Layer, layer, layers
from tvm_bridge.target import Target

PRINTED = {
    "alexnet": {"conv5": 570240, "conv4": 1013760, "conv3": 2580480, "conv2": 22579200, "conv1": 1032192},
    "resnet-18": {
        "rb4-conv2": 844800,
        "rb4-conv1": 760320,
        "rb3-conv2": 9123840,
        "rb3-conv1": 8110080,
        "rb2-conv2": 36864000,
        "rb2-conv1": 32256000,
        "rb1-conv1": 90316800,
        "conv0": 79027200,
        "rb1-sc": 22579200,
        "rb2-sc": 8064000,
        "rb3-sc": 2027520,
        "rb4-sc": 190080,
    },
    "vgg-16": {
        "conv4-3": 13516800,
        "conv4-2": 8448000,
        "conv4-1": 76032000,
        "conv3-2": 228096000,
        "conv3-1": 202752000,
        "conv2-2": 451584000,
        "conv2-1": 395136000,
        "conv1-2": 708083712,
        "conv1-1": 202309632,
    },
    "mobilenet-v1": {
        "sp-13-conv2": 302016,
        "sp-13-dp1": 27456,
        "sp-12-conv2": 274560,
        "sp-12-dp1": 21120,
        "sp-7-conv2": 3379200,
        "sp-7-dp1": 337920,
        "sp-6-conv2": 3041280,
        "sp-6-dp1": 253440,
        "sp-5-conv2": 14256000,
        "sp-5-dp1": 1584000,
        "sp-4-conv2": 12672000,
        "sp-4-dp1": 1152000,
        "sp-3-conv2": 36864000,
        "sp-3-dp1": 4608000,
        "sp-2-conv2": 32256000,
        "sp-2-dp1": 3225600,
        "sp-1-conv1": 59270400,
        "sp-1-dp1": 6585600,
        "conv1": 52684800,
    },
}
"""Column "# of Space" of Sun et al. (ICCV 2021, appendix, tables 2 to 5), in their order."""

CORRECTED_SIZES = {("vgg-16", "conv4-2"): 84_480_000}
"""The one misprinted size: a zero was dropped. 512 has 220 ordered factorisations into four, 28 has 40, 512 has 10 into two
and 3 has 2; times three unroll steps and two pragmas that is 220 * 40 * 40 * 10 * 2 * 2 * 3 * 2."""

CORRECTED_SHAPES = {
    ("resnet-18", "rb1-sc"): (1, 0),
    ("resnet-18", "rb2-sc"): (2, 0),
    ("resnet-18", "rb3-sc"): (2, 0),
    ("resnet-18", "rb4-sc"): (2, 0),
    ("mobilenet-v1", "sp-13-dp1"): (1, 1),
    ("mobilenet-v1", "sp-7-conv2"): (1, 0),
}
"""The six misprinted descriptions, (stride, padding) put right so that they give the printed size. The appendix prints s = 1,
p = 1 for the shortcuts, s = 2 for sp-13-dp1 and s = 4 for sp-7-conv2."""

TARGETS = {
    "cuda": Target.parse({"kind": "cuda", "arch": "sm_75"}),
    "llvm": Target.parse({"kind": "llvm", "mcpu": "skylake-avx512", "num-cores": 2}),
}

PUBLISHED = {
    # multiply-adds, parameters; the fully connected layers, (inputs, outputs); parameters of a filter beside its weights:
    # a bias, or the scale and shift of a batch normalisation
    "alexnet": (714_188_480, 61_100_840, [(9216, 4096), (4096, 4096), (4096, 1000)], 1),
    "resnet-18": (1_814_073_344, 11_689_512, [(512, 1000)], 2),
    "vgg-16": (15_470_264_320, 138_357_544, [(25088, 4096), (4096, 4096), (4096, 1000)], 1),
    "mobilenet-v1": (568_740_352, 4_231_976, [(1024, 1000)], 2),
    "squeezenet-v1.1": (349_151_936, 1_235_496, [], 1),
    "resnet-50": (4_089_184_256, 25_557_032, [(2048, 1000)], 2),
}
"""Whole networks as published: torchvision's model pages; MobileNet-v1 by Howard et al. (2017): 569 M, 4.2 M parameters."""

DEPTH = {"alexnet": 5, "resnet-18": 17 + 4, "vgg-16": 13, "mobilenet-v1": 27, "squeezenet-v1.1": 26, "resnet-50": 49 + 4}
"""Convolutions from input to output, and the four shortcuts of the residual networks."""


def published_layers(network: str) -> list[Layer]:
    """The network's layers without rb1-sc, which the published ResNet-18 does not have."""
    return [each for each in layers(network) if (network, each.name) != ("resnet-18", "rb1-sc")]


def test_appendix_has_45_layers_in_its_order():
    assert sum(map(len, PRINTED.values())) == 45
    for network, sizes in PRINTED.items():
        assert [each.name for each in layers(network)] == list(sizes)


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize(("network", "name"), [(network, name) for network, sizes in PRINTED.items() for name in sizes])
def test_space_has_the_size_of_the_appendix(network, name, kind):
    workload = layer(network, name).workload
    space = templates.find(workload.operator, kind).space(workload, TARGETS[kind])
    assert space.size == CORRECTED_SIZES.get((network, name), PRINTED[network][name])
    assert len(space.feature_names) == (14 if workload.depthwise else 20)


@pytest.mark.parametrize(("network", "name"), CORRECTED_SHAPES)
def test_misprinted_layers_are_put_right(network, name):
    stride, padding = CORRECTED_SHAPES[network, name]
    workload = layer(network, name).workload
    assert workload.stride == (stride, stride)
    assert workload.padding == (padding,) * 4


@pytest.mark.parametrize("network", PUBLISHED)
def test_multiply_adds_are_those_published(network):
    total, _, connected, _ = PUBLISHED[network]
    convolutions = sum(each.count * each.workload.flop for each in published_layers(network)) / 2
    assert convolutions + sum(inputs * outputs for inputs, outputs in connected) == total


@pytest.mark.parametrize("network", PUBLISHED)
def test_parameters_are_those_published(network):
    _, total, connected, beside = PUBLISHED[network]
    parameters = sum((inputs + 1) * outputs for inputs, outputs in connected)
    for each in published_layers(network):
        filters, per_group, height, width = each.workload.weight
        parameters += each.count * filters * (per_group * height * width + beside)
    assert parameters == total


@pytest.mark.parametrize(("network", "depth"), DEPTH.items())
def test_counts_add_up_to_the_depth(network, depth):
    assert sum(each.count for each in layers(network)) == depth


@pytest.mark.parametrize("network", NETWORKS)
def test_layers_are_distinct(network):
    assert len({each.name for each in layers(network)}) == len(layers(network))
    assert len({each.workload for each in layers(network)}) == len(layers(network))


@needs_records
@pytest.mark.parametrize("network", ["resnet-18", "vgg-16"])
def test_recorded_tasks_are_the_layers(network):
    assert RECORDS is not None
    with gzip.open(RECORDS / "autotvm" / "rtx3080" / network / "random.jsonl.gz", "rt") as lines:
        tasks = {json.dumps(json.loads(line)["input"][2]) for line in lines}
    recorded = {Conv2d.from_args("conv2d_nchw", json.loads(task)) for task in tasks}
    assert recorded == {each.workload for each in layers(network)}


def test_unknown_network_lists_the_known():
    with pytest.raises(ValueError, match=r"network: 'resnet18' .*" + ", ".join(NETWORKS)):
        layers("resnet18")


def test_unknown_layer_lists_the_known_and_suggests():
    with pytest.raises(ValueError, match=r"layer: 'rb1_conv1' is not in resnet-18.*conv0.*Did you mean 'rb1-conv1'"):
        layer("resnet-18", "rb1_conv1")
    with pytest.raises(ValueError, match=r"'zzz' .* rb4-sc\.$"):
        layer("resnet-18", "zzz")
