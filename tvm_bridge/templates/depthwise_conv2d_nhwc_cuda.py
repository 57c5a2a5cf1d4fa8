"""Depthwise convolution in NHWC on CUDA: the knobs of the NCHW template, with channels along the fastest axis of a block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from jaxtyping import Array, Num

from search import KnobSpace
from tvm_bridge.templates.cuda_direct import CHANNELS_INNERMOST, output_knobs, unroll_knobs
from tvm_bridge.templates.cuda_limits import Limits
from tvm_bridge.templates.depthwise_conv2d_nchw_cuda import DepthwiseFits, EnlargedFits, depthwise, memory_knobs

if TYPE_CHECKING:
    from search.knobs import Config
    from search.space import Choice
    from tvm_bridge.convolution import Conv2d
    from tvm_bridge.target import Target


class ChannelsInnermost(DepthwiseFits):
    """Whether a depthwise convolution fits whose rows lie along z."""

    tiles: ClassVar[tuple[str, str, str]] = CHANNELS_INNERMOST


class EnlargedChannelsInnermost(EnlargedFits):
    """The same in shared memory or without any."""

    def layout(self, choice: Choice) -> Num[Array, " n"]:
        """NHWC, whatever the configuration."""
        return choice["through_shared"] * 0 + 1


def space(workload: Conv2d, target: Target) -> KnobSpace:
    """The splits and unrolling knobs of `depthwise_conv2d_nchw.cuda`, minus what cannot be launched."""
    return KnobSpace([*output_knobs(workload), *unroll_knobs((0, 256, 1500))], ChannelsInnermost(workload, Limits.of(target)))


def enlarged_space(workload: Conv2d, target: Target) -> KnobSpace:
    """The same and `memory_knobs`; configurations without them keep the index that they have in `space`."""
    knobs = [*space(workload, target).knobs, *memory_knobs()]
    return KnobSpace(knobs, EnlargedChannelsInnermost(workload, Limits.at_launch(target)))


def schedule(function: Any, choice: Config, target: Target) -> Any:
    """Schedule a depthwise convolution as the NCHW template does, alone or with an elementwise epilogue."""
    return depthwise(function, choice, target, CHANNELS_INNERMOST)
