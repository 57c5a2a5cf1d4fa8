"""Hypothesis strategies for workloads small enough to compile and run in a test."""

from hypothesis import strategies as st

from tvm_bridge.convolution import Conv2d
from tvm_bridge.dense import Dense


@st.composite
def convolutions(draw, *, depthwise: bool = False, largest: int = 12, layout: str = "NCHW") -> Conv2d:
    """Convolutions with odd shapes: uneven padding, strides, dilations, one-pixel outputs."""
    channels = draw(st.integers(2, largest))
    filters = channels if depthwise else draw(st.integers(1, largest))
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    padding = tuple(draw(st.integers(0, 2)) for _ in range(4))
    smallest = [
        max(1, (k - 1) * d + 1 - before - after)
        for k, d, before, after in zip(kernel, dilation, padding[:2], padding[2:], strict=True)
    ]
    height, width = (draw(st.integers(low, low + largest)) for low in smallest)
    return Conv2d(
        (draw(st.integers(1, 2)), channels, height, width),
        (filters, 1 if depthwise else channels, *kernel),
        (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        padding,
        dilation,
        channels if depthwise else 1,
        layout=layout,
    )


@st.composite
def products(draw, *, largest: int = 40) -> Dense:
    """Matrix products with odd shapes: single rows, prime numbers of columns."""
    rows, columns, depth = (draw(st.integers(1, largest)) for _ in range(3))
    return Dense((rows, depth), (columns, depth))
