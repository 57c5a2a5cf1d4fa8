"""What TVM, NVIDIA's compilers and its driver say of a failure, in a line."""

from __future__ import annotations

import re

LAUNCH = "CUDALaunch Error:"
"""How TVM begins to say that a kernel could not be launched; blocks and threads follow, then the kernel's name and source."""

COMPILERS = ("Compilation error:", "NVRTC compilation failed:")
"""What TVM writes above the output of nvcc and of NVRTC, which goes on after the error."""

LONGEST = 300
"""Characters of a line at most."""


def in_short(error: Exception) -> str:
    """The error's type and what is wrong."""
    return f"{type(error).__name__}: {complaint(str(error))}"[:LONGEST]


def complaint(text: str) -> str:
    """What an error's text says is wrong, without source code; where TVM says nothing else, its last line."""
    return _found(text.strip())[:LONGEST]


def _found(text: str) -> str:
    if LAUNCH in text:
        said, _, source = text[text.index(LAUNCH) :].partition("// func_name=")
        kernel = source.partition("\n")[0]
        return _plain(f"{said} in {kernel}" if kernel else said)
    for heading in COMPILERS:
        output = text.partition(heading)[2].splitlines()
        if complaints := [line for line in output if "error" in line]:
            return re.sub(r"/\S+/", "", _plain(complaints[0]))  # of files in temporary folders the names are enough
    return _plain(text.splitlines()[-1]) if text else ""


def _plain(text: str) -> str:
    """The words with single spaces."""
    return " ".join(text.split())
