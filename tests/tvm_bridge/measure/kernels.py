"""Small tasks to measure, and functions that misbehave when they run."""

from dataclasses import replace

from tvm.script import tirx as T

import tvm_bridge as bridge
from tvm_bridge.task import Task


def small_task(target: object = "llvm") -> Task:
    """A convolution that compiles and runs in milliseconds."""
    return bridge.conv2d(data=(1, 16, 10, 10), weight=(16, 16, 3, 3), padding=1, target=target)


def calling(function: str, argument: int) -> Task:
    """A task whose kernel calls a function of the C library sixteen times."""

    @T.prim_func(s_tir=True)
    def main(data: T.Buffer((16,), "float32"), output: T.Buffer((16,), "float32")):
        T.func_attr({"tirx.noalias": True})
        for i in range(16):
            with T.sblock("output"):
                place = T.axis.spatial(16, i)
                output[place] = data[place] + T.Cast("float32", T.call_extern("int32", function, argument))

    return replace(small_task(), function=main)
