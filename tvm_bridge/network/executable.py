"""From a network's functions to machine code; where that fails, the operators at fault are named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tvm_bridge.measure.compiling import compiler_environment
from tvm_bridge.measure.complaints import complaint
from tvm_bridge.target import Target


def build(module: Any, target: Target, *, name: str, ours: bool = True) -> Any:
    """Compile a network; functions that have no schedule get TVM's default.

    **Arguments:**

    - `module`: an IRModule whose "main" calls `PrimFunc`s.
    - `name`: the network's, for the error.
    - `ours`: whether all schedules are our templates' or TVM's default.

    **Returns:** TVM's executable.

    **Raises:** `RuntimeError` naming the functions that cannot be compiled.
    """
    import tvm

    from tvm_bridge.build import asynchronous_copies, default_schedules

    refusal = f"{name} cannot be compiled for {target}"
    with _compiler(target):
        try:
            scheduled = default_schedules(module, target)
            # CUDA code is compiled for the target in scope, or else for the GPU here.
            with target.tvm, asynchronous_copies(ours=ours):
                executable = tvm.compile(scheduled, target=target.tvm)
        except Exception as error:
            raise RuntimeError(f"{refusal}: {', '.join(_complaints(module, target, ours)) or complaint(str(error))}") from error
    if target.kind == "cuda" and (idle := [each for each in _functions(scheduled) if _on_host(scheduled[each])]):
        raise RuntimeError(f"{refusal}: no schedule gives threads to {', '.join(idle)}")
    return executable


@contextmanager
def _compiler(target: Target) -> Iterator[None]:
    """Have TVM find the compiler of CUDA code that measuring uses: where there is a GPU, this process calls it."""
    missing = {name: value for name, value in compiler_environment(target).items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            del os.environ[name]


def _complaints(module: Any, target: Target, ours: bool) -> Iterator[str]:
    """The functions that cannot be compiled by themselves, each with the reason."""
    import tvm

    from tvm_bridge.build import compiled, default_schedules

    for name in _functions(module):
        try:
            compiled({name: default_schedules(tvm.IRModule({name: module[name]}), target)[name]}, target, ours=ours)
        except Exception as error:
            yield f"{name} ({complaint(str(error))})"


def _functions(module: Any) -> list[str]:
    """The names of a module's `PrimFunc`s."""
    from tvm import tirx

    return [variable.name_hint for variable, each in module.functions.items() if isinstance(each, tirx.PrimFunc)]


def _on_host(function: Any) -> bool:
    """Whether a function has no loop over a GPU's threads: TVM would have the CPU run it, on memory that it cannot reach."""
    return "T.thread_binding(" not in str(function)
