"""A card says what the records say."""

from experiments.model_card import ADAPTED, READY, VERSIONS, written
from experiments.recordings import recordings
from surrogates import DeepGP, SquareRoot
from tests.experiments.layer_logs import DEVICE, recorded
from tests.tvm_bridge.record_strategies import write_log

ASKED = {"leave_out": "vgg-16", "points": 16, "rows": 30, "seed": 3}


def card(folder, judgements):
    layers = (("alexnet", "conv3"), ("alexnet", "conv4"), ("vgg-16", "conv3-1"))
    log = write_log(folder / "log.jsonl", [each for layer in layers for each in recorded(*layer)])
    ((name, group),) = recordings([log]).items()
    return written(name, group, SquareRoot(DeepGP(inducing=4)), judgements, asked=ASKED, size=123, command="python -m it")


def test_data_settings_accuracy_and_file_are_told(tmp_path):
    about = {"device": DEVICE, "layer": "conv3-1"}
    text = card(tmp_path, [about | {"surrogate": READY, "rmse": 0.5}, about | {"surrogate": ADAPTED, "rmse": 0.25}])
    for line in (
        f"| {DEVICE} | alexnet | 2 | 80 | 8 | 0 |",
        f"| {DEVICE} | vgg-16 | 1 | 40 | 4 | 0 |",
        "at most 30 random configurations of each layer",
        "Layers: alexnet conv3; alexnet conv4; vgg-16 conv3-1.",
        "hidden=(10, 14), inducing=4, inner='diagonal', epochs=300,",
        ", seed 3.",
        "on the layers of vgg-16 (1 of them)",
        f"| {READY} | 0.500 ±0.00 |",
        f"| {ADAPTED} | **0.250** ±0.00 |",
        "cuda-sm_90-conv2d_nchw.gst, 123 bytes",
        "```\npython -m it\n```",
        *VERSIONS,
    ):
        assert line in text


def test_that_nothing_was_judged_is_told(tmp_path):
    assert "Not judged: the records have too little of vgg-16" in card(tmp_path, [])
