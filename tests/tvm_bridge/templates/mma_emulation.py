"""Tensor cores for the emulator of CUDA kernels: the lanes of a warp exchange what they hold, and multiply in TF32."""

import numpy as np

from tests.tvm_bridge.templates import cuda_emulator

TENSOR_CORES = r"""
#include <cstdint>
float masked(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  bits &= 0xffffe000;
  std::memcpy(&value, &bits, 4);
  return value;
}
float tf32_rounded(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  bits += 0x1000;
  std::memcpy(&value, &bits, 4);
  return masked(value);
}

// A lane leaves what it holds, waits for the others of its warp, and then computes its own sums. Two places to leave it in: the
// first to go on may be at its next product before the last has computed this one. Bits beyond TF32's are ignored, as by the
// hardware. Where lanes come from different products, the sums are no numbers.
struct Operands { int product; float weights[4], data[2]; };
struct Lane { int products = 0; bool waits = false; Operands held[2]; };
std::vector<Lane> lanes;
void tf32_add_product(float* sums, const float* weights, const float* data) {
  lanes.resize(std::max(lanes.size(), fibers.size()));
  const int thread = current, lane = thread % 32, product = lanes[thread].products++;
  Operands& mine = lanes[thread].held[product % 2];
  mine.product = product;
  for (int r = 0; r < 4; ++r) mine.weights[r] = masked(weights[r]);
  for (int r = 0; r < 2; ++r) mine.data[r] = masked(data[r]);
  const Index own = threadIdx;
  lanes[thread].waits = true;
  swapcontext(&fibers[thread], &scheduler);
  threadIdx = own;
  for (int r = 0; r < 4; ++r)
    for (int k = 0; k < 8; ++k) {
      const int row = lane / 4 + r / 2 * 8, column = lane % 4 * 2 + r % 2;
      const Operands& a = lanes[thread - lane + row % 8 * 4 + k % 4].held[product % 2];
      const Operands& b = lanes[thread - lane + column * 4 + k % 4].held[product % 2];
      const bool together = a.product == product && b.product == product;
      sums[r] += together ? a.weights[k / 4 * 2 + row / 8] * b.data[k / 4] : NAN;
    }
}

// Once all lanes of a warp wait for one another they go on, up to their next barrier, whatever other warps do.
void run(ucontext_t* from, ucontext_t* to) {
  swapcontext(from, to);
  lanes.resize(std::max(lanes.size(), fibers.size()));
  if (from != &scheduler) return;
  const auto first = lanes.begin() + current / 32 * 32;
  const int warp = current / 32 * 32;
  while (std::all_of(first, first + 32, [](const Lane& lane) { return lane.waits; }))
    for (int lane = 0; lane < 32; ++lane) {
      current = warp + lane;
      lanes[current].waits = false;
      swapcontext(&scheduler, &fibers[current]);
    }
}
#define swapcontext run
"""


def run_emulated(schedule, target, inputs, output):
    """Run a schedule's kernels on NumPy arrays, their blocks made of whole warps."""
    return cuda_emulator.run_emulated(schedule, target, inputs, output, TENSOR_CORES)


def tf32(array):
    """The nearest numbers of TF32, as `cvt.rna.tf32.f32` finds them for numbers of usual size."""
    bits = array.view(np.uint32) + np.uint32(0x1000)
    return (bits & np.uint32(0xFFFFE000)).view(np.float32)
