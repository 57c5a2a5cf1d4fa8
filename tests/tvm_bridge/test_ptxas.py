"""What ptxas reports is read right, and what cannot be compiled is explained."""

import shutil

import pytest

from tvm_bridge.ptxas import Resources, resources

needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is needed to ask ptxas")

SMALL = """
extern "C" __global__ void small(float* result) {
  result[threadIdx.x] = 1.0f;
}
"""

SHARED = """
extern "C" __global__ void reversed(float* result, const float* values) {
  __shared__ float held[320];
  held[threadIdx.x] = values[threadIdx.x];
  __syncthreads();
  result[threadIdx.x] = held[319 - threadIdx.x];
}
"""

# 1024 threads leave at most 64 registers to each, and 96 sums are alive from the first value to the last.
SPILLING = """
extern "C" __global__ void __launch_bounds__(1024) outer_product(float* result, const float* values) {
  float sums[96] = {};
  for (int k = 0; k < values[0]; ++k) {
    #pragma unroll
    for (int i = 0; i < 96; ++i) sums[i] += values[k * 96 + i] * values[k + threadIdx.x];
  }
  #pragma unroll
  for (int i = 0; i < 96; ++i) result[i * 1024 + threadIdx.x] = sums[i];
}
"""


@needs_nvcc
def test_shared_memory_is_read():
    used = resources(SHARED, "sm_80")
    assert used.shared_bytes == 4 * 320
    assert 0 < used.registers < 64
    assert used.spill_bytes == 0


@needs_nvcc
def test_spills_are_read():
    used = resources(SPILLING, "sm_80")
    assert used.registers <= 64
    assert used.spill_bytes > 0
    assert used.shared_bytes == 0


@needs_nvcc
def test_largest_of_several_kernels_counts():
    alone = resources(SHARED, "sm_80")
    assert isinstance(alone, Resources)
    assert resources(SHARED + SMALL, "sm_80") == alone


@needs_nvcc
def test_what_does_not_compile_is_explained():
    with pytest.raises(RuntimeError, match="undeclared_name"):
        resources('extern "C" __global__ void broken() { undeclared_name = 1; }', "sm_80")


@needs_nvcc
def test_source_without_a_kernel_is_refused():
    with pytest.raises(RuntimeError, match="no kernel"):
        resources("static int nothing;", "sm_80")


def test_missing_compiler_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="CUDA toolkit"):
        resources(SMALL, "sm_80")
