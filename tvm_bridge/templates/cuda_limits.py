"""What a block of threads on CUDA may ask for, and how much shared memory it takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jaxtyping import Array, Bool, Float

if TYPE_CHECKING:
    from tvm_bridge.target import Target

FLOAT32_BYTES = 4
BUFFER_ALIGNMENT = 64
"""TVM aligns every buffer to so many bytes, those in shared memory too."""

STATIC_SHARED_BYTES = 48 << 10
"""Shared memory that a block can have on every CUDA device, and the most that a kernel can declare."""

DYNAMIC_SHARED_BYTES = {
    "sm_70": 96 << 10,
    "sm_72": 96 << 10,
    "sm_75": 64 << 10,
    "sm_80": 163 << 10,
    "sm_86": 99 << 10,
    "sm_87": 163 << 10,
    "sm_89": 99 << 10,
    "sm_90": 227 << 10,
    "sm_90a": 227 << 10,
    "sm_100": 227 << 10,
    "sm_100a": 227 << 10,
    "sm_120": 99 << 10,
}
"""Shared memory that a block can have if it asks as it is launched, by architecture (CUDA C++ Programming Guide, "Technical
Specifications per Compute Capability")."""


@dataclass(frozen=True)
class Limits:
    """What a block and its grid may ask for; the defaults hold on every CUDA device.

    - `threads`, `threads_z`: threads of a block, and of them along z.
    - `shared_bytes`: shared memory of a block.
    - `blocks_yz`: blocks of a grid along y, and along z.
    """

    threads: int = 1024
    threads_z: int = 64
    shared_bytes: int = STATIC_SHARED_BYTES
    blocks_yz: int = 65_535

    @classmethod
    def of(cls, target: Target) -> Limits:
        """The limits of a target, which may be tighter than the defaults; of its shared memory what can be declared."""
        attributes = dict(target.attributes)
        threads = (attributes.get(name, cls.threads) for name in ("max_num_threads", "max_threads_per_block"))
        shared_bytes = attributes.get("max_shared_memory_per_block", cls.shared_bytes)
        return cls(threads=min(cls.threads, *threads), shared_bytes=min(cls.shared_bytes, shared_bytes))

    @classmethod
    def at_launch(cls, target: Target) -> Limits:
        """The same with all the shared memory that a launch can ask for; a target that names how much has no more."""
        attributes = dict(target.attributes)
        if "max_shared_memory_per_block" in attributes:
            return cls.of(target)
        return replace(cls.of(target), shared_bytes=DYNAMIC_SHARED_BYTES.get(attributes.get("arch", ""), STATIC_SHARED_BYTES))


def copies_asynchronously(target: Target) -> bool:
    """Whether threads can go on while their copies to shared memory are under way: from compute capability 8.0 on."""
    digits = "".join(filter(str.isdigit, str(dict(target.attributes).get("arch", ""))))
    return target.kind == "cuda" and bool(digits) and int(digits) >= 80


def shared_bytes(data: Any, weights: Any) -> Float[Array, " n"]:
    """The bytes of so many elements as ptxas lays them out: data, then weights, each where its alignment allows."""
    return -(-FLOAT32_BYTES * data // BUFFER_ALIGNMENT) * BUFFER_ALIGNMENT + FLOAT32_BYTES * weights


def storable_at_launch(told: Float[Array, " n"], limits: Limits) -> Bool[Array, " n"]:
    """Whether so many bytes can be had, of which what is more than a kernel can declare is asked for at the launch.

    TVM then lays the buffers out in an order of its own, which may take the alignment of one more.
    """
    return (told <= min(STATIC_SHARED_BYTES, limits.shared_bytes)) | (told + BUFFER_ALIGNMENT <= limits.shared_bytes)
