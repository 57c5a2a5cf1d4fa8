"""What NVIDIA's compiler makes of a kernel: registers, shared memory and spills as ptxas reports them. No GPU is needed."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

AS_TVM_COMPILES = ("-O3", "--use_fast_math", "--ptxas-options=-v,--register-usage-level=10")
"""TVM's own options where they bear on registers, so that the report is of the kernel that TVM runs."""


@dataclass(frozen=True)
class Resources:
    """What a kernel takes of a multiprocessor.

    - `registers`: of one thread, 32 bits each.
    - `shared_bytes`: static shared memory of one block.
    - `spill_bytes`: stores and loads of registers that did not fit, in one thread.
    """

    registers: int
    shared_bytes: int
    spill_bytes: int


def resources(source: str, arch: str) -> Resources:
    """Compile CUDA source with nvcc and read what ptxas says of it.

    **Arguments:**

    - `source`: CUDA C++, as TVM generates it.
    - `arch`: a real architecture, "sm_80" for example.

    **Returns:** the resources of its kernel; of several kernels the largest of each.

    **Raises:** `FileNotFoundError` if there is no nvcc, `RuntimeError` with the compiler's message if it refuses the source.
    """
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise FileNotFoundError("nvcc was not found: install the CUDA toolkit and put its bin folder on PATH.")
    with tempfile.TemporaryDirectory() as folder:
        kernel = Path(folder, "kernel.cu")
        kernel.write_text(source)
        command = [nvcc, "-cubin", f"-arch={arch}", *AS_TVM_COMPILES, "-o", str(kernel.with_suffix(".cubin")), str(kernel)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"nvcc could not compile the kernel for {arch}: {run.stderr.strip()}")
    return _parse(run.stderr)


def _parse(report: str) -> Resources:
    """Read ptxas's report; it says nothing of shared memory where there is none."""
    registers = [int(count) for count in re.findall(r"Used (\d+) registers", report)]
    if not registers:
        raise RuntimeError(f"ptxas reported no kernel: {report.strip()}")
    shared_bytes = [int(count) for count in re.findall(r"(\d+) bytes smem", report)]
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)
    return Resources(
        max(registers),
        max(shared_bytes, default=0),
        max((int(stores) + int(loads) for stores, loads in spills), default=0),
    )
