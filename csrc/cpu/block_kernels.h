// The kernels of tiles.h: blocks of 32 x 32 of a product of rounded numbers, with sums in float32.
#pragma once
#include <cstdint>

#include "isa.h"

namespace aligndraw::cpu {

constexpr int64_t block_side = 32;

// result [32, 32], rows `row_stride` apart, = the product of two row tiles of each side, or with
// `accumulate` += it. left and right point to tiles that follow one another in k, `depth` of each.
// With one left tile only the first 16 rows are formed.
using BlockKernel = void (*)(const uint32_t* const* left, const uint32_t* const* right,
                             int left_tiles, int64_t depth, float* result, int64_t row_stride,
                             bool accumulate);

struct BlockKernels {
  BlockKernel multiply;
  // What a thread calls before its first block and behind its last one; may be null.
  void (*prepare_thread)();
  void (*release_thread)();
};

// Those of an ISA, or of the last ISA before it that has some.
const BlockKernels& block_kernels(Isa isa);

// What block_kernels chooses from; null where the compiler does not know the ISA.
const BlockKernels* avx512_bf16_blocks();
const BlockKernels* amx_blocks();

// Calls run(kernel) with the ISA's kernel on a thread that is prepared for it.
template <class F>
void with_block_kernel(Isa isa, const F& run) {
  struct Prepared {
    const BlockKernels& kernels;
    explicit Prepared(const BlockKernels& chosen) : kernels(chosen) {
      if (kernels.prepare_thread) kernels.prepare_thread();
    }
    ~Prepared() {
      if (kernels.release_thread) kernels.release_thread();
    }
  };
  const Prepared thread(block_kernels(isa));
  run(thread.kernels.multiply);
}

}  // namespace aligndraw::cpu
