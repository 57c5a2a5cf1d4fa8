"""What NVIDIA's driver says of the GPU that kernels run on. It is only asked: clocks, power and modes stay as they are."""

from __future__ import annotations

import csv
import functools
import os
import re
import shutil
import subprocess
from dataclasses import dataclass

DRIVER_LIMIT = 20.0
"""Seconds that the driver's tool may take to answer."""

FIELDS = {
    "uuid": "uuid",
    "name": "name",
    "driver": "driver_version",
    "performance_state": "pstate",
    "sm_mhz": "clocks.sm",
    "most_sm_mhz": "clocks.max.sm",
    "memory_mhz": "clocks.mem",
    "most_memory_mhz": "clocks.max.mem",
    "celsius": "temperature.gpu",
    "watts": "power.draw",
}
"""The fields of a state, and what `nvidia-smi --query-gpu` calls them."""


@dataclass(frozen=True)
class GPUState:
    """A GPU at one moment.

    - `uuid`, `name`, `driver`, `cuda`: the device, the driver's version, and the latest CUDA that this driver runs.
    - `performance_state`: from P0, the fastest, to P15.
    - `sm_mhz`, `memory_mhz`: the clocks at this moment, `most_sm_mhz`, `most_memory_mhz`: the highest they can be.
    - `celsius`, `watts`: temperature of the chip and power drawn.

    What the driver does not tell is None.
    """

    uuid: str | None
    name: str | None
    driver: str | None
    performance_state: str | None
    sm_mhz: float | None
    most_sm_mhz: float | None
    memory_mhz: float | None
    most_memory_mhz: float | None
    celsius: float | None
    watts: float | None
    cuda: str | None


def gpu_state() -> GPUState | str:
    """Ask for the state of the first GPU that CUDA shows to this process's children; a sentence says why there is none.

    `CUDA_VISIBLE_DEVICES` counts. Where it has numbers they are the driver's: on a machine with GPUs of several kinds set
    `CUDA_DEVICE_ORDER=PCI_BUS_ID` too, or CUDA numbers them otherwise.
    """
    answer = asked(f"--query-gpu={','.join(FIELDS.values())}", "--format=csv,noheader,nounits", gpu=visible_gpu())
    if not isinstance(answer, list):
        return answer
    values = next(csv.reader(answer, skipinitialspace=True), [])
    if len(values) != len(FIELDS):
        return f"nvidia-smi did not answer what it was asked: {' '.join(answer)[:200]!r}"
    told = {name: _told(name, value) for name, value in zip(FIELDS, values, strict=True)}
    return GPUState(**told, cuda=_cuda_version())  # type: ignore[arg-type]


def visible_gpu() -> str:
    """The first GPU that CUDA shows, as `CUDA_VISIBLE_DEVICES` and `nvidia-smi --id` name it: a number or a UUID."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip() or "0"


def asked(*question: str, gpu: str) -> list[str] | str:
    """The lines that nvidia-smi answers about a GPU, or why it does not."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "there is no nvidia-smi on the path"
    try:
        answer = subprocess.run(
            [tool, f"--id={gpu}", *question], capture_output=True, text=True, timeout=DRIVER_LIMIT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi could not be asked: {error}"
    if answer.returncode:
        said = " ".join((answer.stdout + answer.stderr).split())
        return f"nvidia-smi refused to answer (exit code {answer.returncode}): {said[:200]}"
    return answer.stdout.splitlines()


def _told(name: str, value: str) -> float | str | None:
    """A field's value, a number where it has a unit; None for "[N/A]", "[Not Supported]", "ERR!" and the like."""
    if value.startswith("[") or value == "N/A":
        return None
    if not name.endswith(("mhz", "celsius", "watts")):
        return value
    try:
        return float(value)
    except ValueError:
        return None


@functools.cache
def _cuda_version() -> str | None:
    """The driver's CUDA version, which nvidia-smi tells only in its long report."""
    report = asked("-q", gpu=visible_gpu())
    found = re.search(r"CUDA Version\s*:\s*([\d.]+)", "\n".join(report)) if isinstance(report, list) else None
    return found[1] if found else None
