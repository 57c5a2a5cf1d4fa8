"""A failure reads as a line that says what is wrong, whoever says it."""

import pytest
import tvm

from tvm_bridge.measure.complaints import LONGEST, complaint, in_short

LAUNCH = "CUDALaunch Error: CUDA_ERROR_INVALID_VALUE\n grid=(1,2,3),  block=(4,5,6)\n"
SOURCE = "// func_name=main_kernel\n// CUDA Source\n// -----------\n__global__ void main_kernel() {\n}\n"
PTXAS = (
    "__global__ void main_kernel() {}\nCompilation error:\n"
    "ptxas error   : Entry function 'main_kernel' uses too much shared data (0x13880 bytes, 0xc000 max)\n"
    "ptxas info    : 0 bytes gmem\nptxas info    : Compile time = 26.393 ms\n"
)
NVCC = (
    'Compilation error:\n/tmp/tmp82pt4c84/tvm_kernels.cu(1): error: identifier "x" is undefined\n'
    '  void k() { x(); }\n             ^\n\n1 error detected in the compilation of "/tmp/tmp82pt4c84/tvm_kernels.cu".\n'
)
NVRTC = (
    'NVRTC compilation failed:\ntvm_kernels.cu(1): error: identifier "x" is undefined\n\n1 error detected in the compilation.\n'
)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (LAUNCH + SOURCE, "CUDALaunch Error: CUDA_ERROR_INVALID_VALUE grid=(1,2,3), block=(4,5,6) in main_kernel"),
        ("Traceback\n" + LAUNCH, "CUDALaunch Error: CUDA_ERROR_INVALID_VALUE grid=(1,2,3), block=(4,5,6)"),
        (PTXAS, "ptxas error : Entry function 'main_kernel' uses too much shared data (0x13880 bytes, 0xc000 max)"),
        (NVCC, 'tvm_kernels.cu(1): error: identifier "x" is undefined'),
        (NVRTC, 'tvm_kernels.cu(1): error: identifier "x" is undefined'),
        ("Compilation error:\nkilled\n", "killed"),
        ("Traceback:\n  somewhere\nCheck failed: a loop", "Check failed: a loop"),
        ("", ""),
    ],
)
def test_line_says_what_is_wrong(said, line):
    assert complaint(said) == line
    assert in_short(tvm.error.InternalError(said)) == f"InternalError: {line}"


def test_line_is_short():
    assert len(in_short(ValueError("x" * 1000))) == len(complaint("x" * 1000)) == LONGEST
