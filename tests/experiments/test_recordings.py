"""Logs are told apart by what their models are for, and each layer says what was recorded of it."""

import pytest

from experiments.recordings import recordings
from tests.experiments.layer_logs import DEVICE, FAILED, ROWS, recorded
from tests.tvm_bridge.record_strategies import write_log
from tvm_bridge.target import Target


def test_a_recording_is_what_was_measured_of_a_layer_and_not_its_default(tmp_path):
    records = recorded("alexnet", "conv4")
    ((_, (recording,)),) = recordings([write_log(tmp_path / "log.jsonl.gz", records)]).items()
    assert (recording.layer.device, recording.layer.name, recording.networks) == (DEVICE, "alexnet conv4", ("alexnet",))
    assert recording.layer.x.shape == (ROWS, len(recording.features)) == (ROWS, 20)
    assert (recording.layer.y == 0).sum() == FAILED
    times = [each.measurement.cost for each in records if each.measurement.ok and each.config]
    assert recording.layer.y.max() == pytest.approx(2 * 384 * 256 * 9 * 13 * 13 / min(times) / 1e9)
    assert recording.refused == 0


def test_a_model_for_each_operator_family_and_space(tmp_path):
    """A target that names no family is left out, a layer of several networks is each one's."""
    depthwise = recorded("mobilenet-v1", "sp-1-dp1")
    others = [Target.parse(text) for text in ("cuda -arch=sm_86", "llvm -mcpu=znver4 -num-cores=2", "cuda")]
    shared = recorded("resnet-50", "rb1-1-conv2")
    elsewhere = [each for target in others for each in recorded("alexnet", "conv4", target)]
    log = write_log(tmp_path / "log.jsonl", [*shared, *elsewhere, *depthwise])
    with pytest.warns(UserWarning, match="left out, its target 'cuda' names no family of devices"):
        groups = recordings([log])
    names = ["cuda-sm_90-conv2d_nchw", "cuda-sm_86-conv2d_nchw", "llvm-znver4-conv2d_nchw", "cuda-sm_90-depthwise_conv2d_nchw"]
    assert list(groups) == names
    assert set(groups[names[0]][0].networks) == {"resnet-18", "resnet-50"}
