// The kernels of csrc/cpu that need no torch, as a program for any processor: test_aarch64.py runs
// it here and, compiled for aarch64, in an emulator. It prints what is wrong and ends with 1.
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "cpu/block_kernels.h"
#include "cpu/gemm_kernels.h"
#include "cpu/round.h"
#include "math/scalar.h"

using namespace aligndraw::cpu;

namespace {

int faults = 0;

void expect(bool holds, const char* what, int64_t a = 0, int64_t b = 0, int64_t c = 0) {
  if (holds) return;
  if (++faults <= 10) std::printf("%s (%ld, %ld, %ld)\n", what, long(a), long(b), long(c));
}

// `size` numbers that end where a page begins that nobody may touch.
template <class T>
class Guarded {
 public:
  explicit Guarded(size_t size) {
    const size_t page = sysconf(_SC_PAGESIZE), bytes = size * sizeof(T);
    length_ = (bytes + page - 1) / page * page + page;
    memory_ = static_cast<char*>(
        mmap(nullptr, length_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(memory_ + length_ - page, page, PROT_NONE);
    data = reinterpret_cast<T*>(memory_ + length_ - page - bytes);
  }
  ~Guarded() { munmap(memory_, length_); }
  T* data;

 private:
  char* memory_;
  size_t length_;
};

uint32_t state = 1;
uint32_t next() { return state = state * 1664525u + 1013904223u; }
float whole() { return float(int(next() >> 28) - 8); }
float fraction() { return float(int32_t(next())) / float(1u << 31); }

// One panel of one strip: small whole numbers, of which every order of a sum gives the same.
template <class T>
void test_whole_numbers() {
  for (int64_t rows = 1; rows <= 14; ++rows)
    for (int64_t depth = 0; depth <= 9; depth += 3)
      for (int64_t columns = 1; columns <= strip; ++columns) {
        const bool accumulate = next() >> 31, turned = next() >> 31;
        Guarded<T> left(rows * depth), panel(depth * strip), result(rows * columns);
        for (int64_t i = 0; i < rows * depth; ++i) left.data[i] = T(whole());
        for (int64_t i = 0; i < depth * strip; ++i)
          panel.data[i] = i % strip < columns ? T(whole()) : T(0);
        std::vector<T> expected(rows * columns);
        for (int64_t i = 0; i < rows * columns; ++i)
          result.data[i] = expected[i] = accumulate ? T(whole()) : T(0);
        const int64_t row_stride = turned ? 1 : depth, col_stride = turned ? rows : 1;
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t j = 0; j < columns; ++j)
            for (int64_t k = 0; k < depth; ++k)
              expected[i * columns + j] +=
                  left.data[i * row_stride + k * col_stride] * panel.data[k * strip + j];
        gemm_kernels<T>(Isa::portable)
            .of_strips[1]({left.data, row_stride, col_stride, rows, panel.data, depth, result.data,
                           columns, columns, accumulate});
        for (int64_t i = 0; i < rows * columns; ++i)
          expect(result.data[i] == expected[i], "a product of whole numbers", rows, depth, columns);
      }
}

// Each element is one chain of fused multiply-adds, in the order of k, where NEON has them.
void test_chains() {
#ifdef __aarch64__
  constexpr int64_t rows = 7, depth = 50;
  float left[rows * depth], panel[depth * strip], result[rows * strip];
  for (float& x : left) x = fraction();
  for (float& x : panel) x = fraction();
  gemm_kernels<float>(Isa::portable)
      .of_strips[1]({left, depth, 1, rows, panel, depth, result, strip, strip, false});
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < strip; ++j) {
      float chain = 0;
      for (int64_t k = 0; k < depth; ++k)
        chain = std::fmaf(left[i * depth + k], panel[k * strip + j], chain);
      expect(chain == result[i * strip + j], "a chain of multiply-adds", i, j);
    }
#endif
}

void test_rounding() {
  float rows[16 * 32];
  uint32_t by_rows[256], by_columns[256], turned[256], row[16];
  for (float& x : rows) x = fraction() * std::ldexp(1.0f, int(next() >> 27) - 16);
  rows[5] = INFINITY, rows[9] = 1 + std::ldexp(1.0f, -8);  // a tie: to even
  pack_rows(rows, 32, by_rows);
  for (int64_t i = 0; i < 16; ++i)
    for (int64_t k = 0; k < 32; ++k) {
      const uint32_t pair = by_rows[i * 16 + k / 2], bits = k % 2 ? pair & 0xffff0000 : pair << 16;
      float value;
      std::memcpy(&value, &bits, sizeof value);
      const float x = rows[i * 32 + k];
      expect(value == x || std::fabs(value - x) <= std::ldexp(std::fabs(x), -8), "a rounding", i,
             k);
    }
  expect(by_rows[4] >> 16 == 0x3f80, "a tie");
  float columns[32 * 16];
  for (int64_t i = 0; i < 16; ++i)
    for (int64_t k = 0; k < 32; ++k) columns[k * 16 + i] = rows[i * 32 + k];
  pack_columns(columns, 16, by_columns);
  transpose(by_columns, 16, turned, 16);
  expect(!std::memcmp(turned, by_rows, sizeof turned), "columns, turned, are rows");
  pack_row(rows + 32, 31, row);
  expect(!std::memcmp(row, by_rows + 16, 15 * sizeof *row), "a row of an odd number");
  expect(row[15] == (by_rows[31] & 0xffff), "its last pair");
}

void test_blocks() {
  std::vector<uint32_t> tiles(4 * 256 * 3);
  for (uint32_t& pair : tiles) {
    float two[2] = {whole(), whole()};
    pack_row(two, 2, &pair);
  }
  const auto number = [&](int64_t tile, int64_t line, int64_t n, int64_t half) {
    const uint32_t pair = tiles[tile * 256 + line * 16 + n];
    const uint32_t bits = half ? pair & 0xffff0000 : pair << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  };
  const uint32_t* const left[] = {&tiles[0], &tiles[3 * 256]};
  const uint32_t* const right[] = {&tiles[6 * 256], &tiles[9 * 256]};
  Guarded<float> result(block_side * block_side);
  with_block_kernel(Isa::portable, [&](BlockKernel kernel) {
    kernel(left, right, 2, 3, result.data, block_side, false);
  });
  for (int64_t i = 0; i < block_side; ++i)
    for (int64_t j = 0; j < block_side; ++j) {
      float sum = 0;
      for (int64_t k = 0; k < 3 * 32; ++k)
        sum += number(i / 16 * 3 + k / 32, i % 16, k % 32 / 2, k % 2) *
               number(6 + j / 16 * 3 + k / 32, k % 32 / 2, j % 16, k % 2);
      expect(sum == result.data[i * block_side + j], "a block", i, j);
    }
}

// exp, tanh and sigmoid within the errors that math/scalar.h states, here 4 ulp.
void test_functions() {
  for (int i = 0; i < 20000; ++i) {
    const float x = fraction() * 80;
    const auto near = [&](float value, double truth, const char* name) {
      expect(std::fabs(value - truth) <= 4 * std::ldexp(std::fabs(truth), -23), name, i);
    };
    near(aligndraw::math::exp(x), std::exp(double(x)), "exp");
    near(aligndraw::math::tanh(x / 20), std::tanh(double(x / 20)), "tanh");
    near(aligndraw::math::sigmoid(x), 1 / (1 + std::exp(-double(x))), "sigmoid");
  }
}

}  // namespace

// Those of x86-64's ISAs: their files are not part of this program.
const GemmKernels<float>* aligndraw::cpu::avx2_gemm() { return nullptr; }
const GemmKernels<float>* aligndraw::cpu::avx512_gemm() { return nullptr; }
const GemmKernels<Bf16Pair>* aligndraw::cpu::avx512_bf16_gemm() { return nullptr; }
const BlockKernels* aligndraw::cpu::avx512_bf16_blocks() { return nullptr; }
const BlockKernels* aligndraw::cpu::amx_blocks() { return nullptr; }

int main() {
  test_whole_numbers<float>();
  test_whole_numbers<double>();
  test_chains();
  test_rounding();
  test_blocks();
  test_functions();
  if (!faults) std::printf("all as it should be\n");
  return faults ? 1 : 0;
}
