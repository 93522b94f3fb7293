// libFuzzer: products of any sizes and strides. All numbers are small and whole, so that every
// order of a sum gives the same; each array ends where nobody may read.
#include <cstdlib>

#include "bytes.h"
#include "cpu/gemm_kernels.h"

using namespace aligndraw::cpu;

// Those of x86-64's ISAs: their files are not part of this program.
const GemmKernels<float>* aligndraw::cpu::avx2_gemm() { return nullptr; }
const GemmKernels<float>* aligndraw::cpu::avx512_gemm() { return nullptr; }
const GemmKernels<Bf16Pair>* aligndraw::cpu::avx512_bf16_gemm() { return nullptr; }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Bytes in(data, size);
  const auto& kernels = gemm_kernels<float>(Isa::portable);
  const int64_t strips = in.number(1, kernels.max_strips), rows = in.number(1, 20),
                depth = in.number(0, 12);
  const int64_t columns = in.number(strip * (strips - 1) + 1, strip * strips);
  const int64_t result_stride = columns + in.number(0, 3), more = in.number(0, 2);
  const bool turned = in.number(0, 1), accumulate = in.number(0, 1);
  const int64_t row_stride = turned ? 1 : depth + more, col_stride = turned ? rows + more : 1;
  const auto left =
      in.array<float>(depth ? (rows - 1) * row_stride + (depth - 1) * col_stride + 1 : 0, -8, 8);
  auto panel = in.array<float>(depth * strip * strips, -8, 8);
  auto result = in.array<float>((rows - 1) * result_stride + columns, -8, 8);
  auto expected = result;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      float& sum = expected[i * result_stride + j];
      if (!accumulate) sum = 0;
      for (int64_t k = 0; k < depth; ++k)
        sum += left[i * row_stride + k * col_stride] *
               panel[(j / strip * depth + k) * strip + j % strip];
    }
  kernels.of_strips[strips]({left.data(), row_stride, col_stride, rows, panel.data(), depth,
                             result.data(), result_stride, columns, accumulate, nullptr, nullptr});
  if (result != expected) std::abort();
  return 0;
}
