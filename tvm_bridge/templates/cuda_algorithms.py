"""The algorithms of a dense convolution on CUDA in one space: in float32 on the cores of all threads, in TF32 on tensor cores.

Knobs that an algorithm does not heed it has at their first option, or at the one that stands for their absence.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Array, Bool

from search import KnobSpace, Option
from search.knobs import Config, Knob
from search.space import Choice, Predicate
from tvm_bridge.convolution import Conv2d
from tvm_bridge.target import Target
from tvm_bridge.templates import cuda_tensor_cores as tensor_cores
from tvm_bridge.templates.alternatives import merged
from tvm_bridge.templates.cuda_limits import Limits

TENSOR_CORES = "tensor_cores"
"""The knob that chooses: 1 for tensor cores."""

SHARED = ("fetch_data", "fetch_weight", "stages", "split_reduction", "auto_unroll_max_step")
"""The direct algorithm's knobs that tensor cores heed too."""


def space(
    knobs: Sequence[Knob], direct: Predicate, workload: Conv2d, target: Target, *, unheeded: Collection[str] = ()
) -> KnobSpace:
    """The knobs of the direct algorithm, those that tensor cores have of their own, and the one that chooses.

    That one is last, so that configurations without tensor cores have the same index where there are none.

    **Arguments:**

    - `direct`: the direct algorithm's predicate.
    - `unheeded`: which of `knobs` tensor cores alone heed.
    """
    own = tensor_cores.knobs(workload)
    every, available = [*knobs, *own], tensor_cores.has_tensor_cores(target)
    direct_heeds = {knob.name for knob in knobs} - set(unheeded)
    alternatives: list[tuple[Mapping[str, int], Heeding]] = [({}, Heeding.of(direct, every, direct_heeds))]
    if available:
        fits = tensor_cores.TensorCoresFit.of(workload, target, Limits.at_launch(target))
        alternatives.append(({TENSOR_CORES: 1}, Heeding.of(fits, every, {*SHARED, *(knob.name for knob in own)})))
    return merged(every, [Option(TENSOR_CORES, (0, 1) if available else (0,), absent=0)], alternatives)


def tf32_terms(workload: Conv2d, choice: Config) -> int:
    """How many products of numbers rounded to TF32 each result is the sum of; 0 for none."""
    return tensor_cores.terms(workload) if choice.get(TENSOR_CORES) else 0


@dataclass(frozen=True)
class Heeding:
    """The demands of an algorithm that heeds some knobs of a space only.

    - `predicate`: what it demands of these.
    - `idle`: the value of each other knob, factors or a single number.
    """

    predicate: Predicate
    idle: tuple[tuple[str, tuple[int, ...]], ...]

    share: ClassVar[int] = 1

    @classmethod
    def of(cls, predicate: Predicate, knobs: Sequence[Knob], heeded: Collection[str]) -> Heeding:
        """Of those among `knobs` that are not heeded, the value that stands for their absence, or the first."""

        def value(knob: Knob) -> tuple[int, ...]:
            place = knob.option(knob.absent) if isinstance(knob, Option) and knob.absent is not None else 0
            return tuple(knob.table[place].tolist())

        return cls(predicate, tuple((knob.name, value(knob)) for knob in knobs if knob.name not in heeded))

    def __call__(self, choice: Choice) -> Bool[Array, " n"]:
        """Tell which configurations suit the algorithm and leave the other knobs where they are."""
        admitted = self.predicate(choice)
        for name, value in self.idle:
            factors = choice[name]
            admitted = admitted & (factors == value[0] if factors.ndim == 1 else (factors == np.array(value)).all(axis=-1))
        return admitted

    @property
    def able(self) -> Mapping[str, Callable[[Any], Any]]:
        """By a knob's name, what tells from its table which options a configuration can have."""

        def only(value: tuple[int, ...]) -> Callable[[Any], Any]:
            return lambda table: (table == np.array(value)).all(axis=1)

        return {name: only(value) for name, value in self.idle}
