"""How a convolution on CUDA brings its inputs to shared memory: knobs of enlarged spaces beside those that cut its loops.

- `fetch_data`, `fetch_weight`: 0 copies as AutoTVM's template does; otherwise neighbouring threads copy neighbouring vectors of
  so many elements.
- `row_padding`: how many elements rows in shared memory are longer by, so that what threads read at once lies in other banks.
- `stages`: how many steps of the reduction have a buffer of their own: while one computes, those after it are fetched.
- `split_reduction`: how many blocks share a reduction. Each sums a part of the channels; a second kernel adds the parts up.
  The tiles of a small output alone are few blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from search import Option
from tvm_bridge.templates.cuda_limits import copies_asynchronously

if TYPE_CHECKING:
    from tvm_bridge.convolution import Conv2d
    from tvm_bridge.target import Target

VECTORS = (2, 4)
"""Elements of the vectors of floats that CUDA copies at once, beside single ones."""


def staging_knobs(workload: Conv2d, target: Target) -> list[Option]:
    """The knobs above; one that can change nothing has a single option.

    Only of a pointwise convolution without padding, which is put around the data element by element, are there vectors of data.
    Copies that threads wait for overlap with nothing.
    """
    plain = not any(workload.padding) and workload.weight[2:] == (1, 1)
    return [
        Option("fetch_data", (0, 1, *VECTORS) if plain else (0, 1), absent=0),
        Option("fetch_weight", (0, 1, *VECTORS), absent=0),
        Option("row_padding", (0, 1, 4), absent=0),
        stages_knob(target),
        parts_knob(),
    ]


def stages_knob(target: Target) -> Option:
    """Into how many stages a device that copies asynchronously can cut its steps."""
    return Option("stages", (1, 2, 3, 4) if copies_asynchronously(target) else (1,), absent=1)


def parts_knob() -> Option:
    """Into how many parts a reduction over channels is split."""
    return Option("split_reduction", (1, 2, 4, 8, 16), absent=1)
