"""Targets: the hardware a kernel is compiled for, as TVM takes it and as records name it."""

from __future__ import annotations

import difflib
import functools
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tvm_bridge.cpu_caches import caches
from tvm_bridge.gpu_state import asked, visible_gpu

FALLBACK_CUDA_ARCH = "sm_80"
"""Code for a CUDA target without `arch` is generated for this where no GPU can be asked."""

_IMPLIED = {"keys": None, "tag": None, "device": None, "host": None, "model": "unknown", "link-params": 0}
_IMPLIED |= {"max_num_threads": 1024, "thread_warp_size": 32}
"""Attributes that TVM adds by itself; None stands for any value."""

_LISTS = ("mattr", "libs")
"""Attributes that are lists for TVM, of however few words."""

CACHES = "cache-bytes"
"""The attribute of the caches' sizes, which TVM does not know."""


@dataclass(frozen=True)
class Target:
    """A kind ("llvm", "cuda") and the attributes that tell one machine's code from another's (mcpu, num-cores, arch).

    `caches` are the bytes of data that each of a CPU's cores can hold in each level of its caches, from the first on; empty if
    they are not known. They bound which configurations are worth building and bear on no kernel's code. Targets that differ in
    them alone are equal, and so records of the one count for the other, where the space may hold a little more or less.
    """

    kind: str
    attributes: tuple[tuple[str, Any], ...] = ()
    caches: tuple[int, ...] = field(default=(), compare=False)

    @classmethod
    def parse(cls, target: Any) -> Target:
        """Read a target as users and logs write it: a dictionary, JSON, TVM's object, or "kind -name=value ...".

        Nothing is filled in: what a log does not say stays unsaid.

        **Raises:** `ValueError` if it is none of these, or has sizes of caches that are none.
        """
        if isinstance(target, Target):
            return target
        text = str(target).strip()
        try:
            if isinstance(target, Mapping):
                fields = dict(target)
            elif text.startswith("{"):
                fields = json.loads(text)
            else:
                kind, *words = text.split()
                pairs = (word.removeprefix("-").partition("=") for word in words)
                fields = {"kind": kind} | {name: _number(value) for name, _, value in pairs}
            kind = fields.pop("kind")
        except (ValueError, KeyError) as error:
            raise ValueError(f"target: {target!r} is not a target; write 'llvm', 'cuda' or {{'kind': ..., ...}}.") from error
        sizes = _sizes(fields.pop(CACHES, ()))
        kept = {name: value for name, value in fields.items() if name not in _IMPLIED or _IMPLIED[name] not in (None, value)}
        return cls(kind, tuple(sorted((name, _frozen(name, value)) for name, value in kept.items())), sizes)

    def resolve(self) -> Target:
        """Fill in this machine: cpu, number of cores and caches of a bare "llvm", architecture of a "cuda" without one.

        **Raises:** `ValueError` for a kind that has no templates, an unknown CPU, or cores that are not a whole number.
        """
        attributes, sizes = dict(self.attributes), self.caches
        if self.kind == "llvm":
            if attributes.get("mtriple") == _host_triple():  # TVM's own object spells out what is this machine anyway
                del attributes["mtriple"]
            if "mcpu" not in attributes and "mtriple" not in attributes:
                attributes["mcpu"] = _host_cpu()
            elif "mtriple" not in attributes and attributes["mcpu"] not in (known := _host_architectures()):
                close = difflib.get_close_matches(attributes["mcpu"], known, n=3)
                raise ValueError(
                    f"target: LLVM knows no CPU {attributes['mcpu']!r}; did you mean one of {close or sorted(known)}?"
                )
            cores = attributes.setdefault("num-cores", host_cores())
            if not _is_count(cores):
                raise ValueError(f"target: num-cores: {cores!r} must be a whole number from 1.")
            if "mtriple" not in attributes and attributes["mcpu"] == _host_cpu():
                sizes = sizes or tuple(size // cores for size in caches(cores).values())
        elif self.kind == "cuda":
            attributes.setdefault("arch", _cuda_arch() or FALLBACK_CUDA_ARCH)
        else:
            raise ValueError(f"target: kind {self.kind!r} is not supported; use 'llvm' or 'cuda'.")
        return Target(self.kind, tuple(sorted(attributes.items())), sizes)

    @property
    def threads(self) -> int:
        """Threads a kernel runs on: the CPU's `num-cores`, 1 elsewhere."""
        return int(dict(self.attributes).get("num-cores", 1))

    @property
    def tvm(self) -> Any:
        """The target as a `tvm.target.Target`, which knows of no caches."""
        import tvm

        return tvm.target.Target(replace(self, caches=()).to_json())

    def to_json(self) -> dict[str, Any]:
        """The target as the dictionary that TVM reads, and the sizes of the caches if they are known."""
        return {"kind": self.kind} | {name: list(v) if isinstance(v, tuple) else v for name, v in self._named}

    @property
    def _named(self) -> tuple[tuple[str, Any], ...]:
        return (*self.attributes, (CACHES, self.caches)) if self.caches else self.attributes

    def __str__(self) -> str:
        return self._text

    @functools.cached_property
    def _text(self) -> str:
        """Words as AutoTVM wrote them, or JSON where words would be read as something else."""
        words = (f"-{name}={','.join(map(str, v)) if isinstance(v, tuple) else v}" for name, v in self._named)
        text = " ".join([self.kind, *words])
        return text if Target.parse(text) == self else json.dumps(self.to_json())


def _number(text: str) -> Any:
    return int(text) if text.lstrip("-").isdigit() else text


def _sizes(value: Any) -> tuple[int, ...]:
    words = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
    sizes = tuple(_number(word) if isinstance(word, str) else word for word in words)
    if not all(map(_is_count, sizes)):
        raise ValueError(f"target: {CACHES}: {value!r} must be whole numbers from 1, a size for each level.")
    return sizes


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _frozen(name: str, value: Any) -> Any:
    if isinstance(value, str) and ("," in value or name in _LISTS):
        return tuple(value.split(","))
    return tuple(value) if isinstance(value, list) else value


@functools.cache
def _host_triple() -> str:
    import tvm

    return str(tvm.target.Target("llvm").attrs["mtriple"])


@functools.cache
def _host_cpu() -> str:
    import tvm

    return str(tvm.get_global_func("target.llvm_get_system_cpu")())


@functools.cache
def _host_architectures() -> frozenset[str]:
    """The CPUs of this machine's kind that LLVM can compile for; it takes another name without a word, and ignores it."""
    import tvm

    return frozenset(map(str, tvm.get_global_func("target.llvm_get_cpu_archlist")(tvm.target.Target("llvm"))))


def host_cores() -> int:
    """Physical cores this process may use: two threads of one core share its vector units, and a container may have fewer."""
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed, _container_cores() or allowed))


def _container_cores(limits: Path = Path("/sys/fs/cgroup/cpu.max")) -> int | None:
    """Whole cores of a container's CPU quota, at least one; None without a quota."""
    try:
        quota, period = limits.read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no such file, or "max"
        return None


@functools.cache
def _cuda_arch() -> str | None:
    """The compute capability of the first GPU that CUDA shows, by the driver's own tool, without opening the device here."""
    gpu = visible_gpu()
    known = "0" if gpu.startswith("MIG-") else gpu  # the tool knows parts of GPUs by no name
    answer = asked("--query-gpu=compute_cap", "--format=csv,noheader", gpu=known)
    found = re.fullmatch(r"(\d+)\.(\d+)", answer[0].strip()) if isinstance(answer, list) and answer else None
    return f"sm_{found[1]}{found[2]}" if found else None
