"""Runs a Relax module on this machine, untuned."""

import numpy as np
import tvm
from tvm import relax


def run(module, *arrays):
    """The outputs of "main", as a list of arrays."""
    machine = relax.VirtualMachine(relax.build(module, tvm.target.Target({"kind": "llvm"})), tvm.cpu())
    outputs = machine["main"](*(tvm.runtime.tensor(np.ascontiguousarray(each)) for each in arrays))
    return [each.numpy() for each in ([outputs] if isinstance(outputs, tvm.runtime.Tensor) else outputs)]
