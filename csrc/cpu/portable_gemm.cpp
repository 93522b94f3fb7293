// The kernels in the compiler's own vectors: for float where no other file has some, and for
// double. Vectors as results would depend on the calling convention, were these functions called.
#pragma GCC diagnostic ignored "-Wpsabi"
#include "compiler.h"
#include "vector.h"

#define ALIGNDRAW_GEMM_TARGET ALIGNDRAW_INLINE
#define ALIGNDRAW_GEMM_TARGET_INLINE ALIGNDRAW_INLINE
#include "gemm_tile.h"

namespace aligndraw::cpu {
namespace {

template <class T, int width, int rows>
struct Portable {
  using Number = T;
  using Vector = cpu::Vector<T, width>;
  using Sums = Vector;
  static constexpr int lanes = width;
  template <int strips>
  static constexpr int most_rows = rows;

  static ALIGNDRAW_INLINE Sums zero() { return Sums{}; }
  static ALIGNDRAW_INLINE Vector load(const T* from) {
    Vector vector;
    cpu::load(vector, from);
    return vector;
  }
  static ALIGNDRAW_INLINE Vector broadcast(const T* from) { return *from - Vector{}; }
  static ALIGNDRAW_INLINE Sums multiply_add(Vector a, Vector b, Sums sums) { return a * b + sums; }
  static ALIGNDRAW_INLINE void put(T* to, Sums sums, bool accumulate) {
    if (accumulate) sums += load(to);
    store(to, sums);
  }
  static ALIGNDRAW_INLINE void put_part(T* to, Sums sums, bool accumulate, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = accumulate ? to[i] + sums[i] : sums[i];
  }
};

using Floats = Portable<float, 4, 2>;
using Doubles = Portable<double, 8, 4>;

void multiply_floats(const PanelProduct<float>& p) { multiply_panel<Floats, 1>(p); }
ALIGNDRAW_CLONES void multiply_doubles(const PanelProduct<double>& p) {
  multiply_panel<Doubles, 1>(p);
}

}  // namespace

template <>
const GemmKernels<float>& gemm_kernels(Isa isa) {
  static constexpr GemmKernels<float> portable{1, {nullptr, multiply_floats}};
  if (isa >= Isa::avx512) return *avx512_gemm();
  if (isa == Isa::avx2) return *avx2_gemm();
  return neon_gemm() ? *neon_gemm() : portable;
}

template <>
const GemmKernels<double>& gemm_kernels(Isa) {
  static constexpr GemmKernels<double> kernels{1, {nullptr, multiply_doubles}};
  return kernels;
}

template <>
const GemmKernels<Bf16Pair>& gemm_kernels(Isa) {
  return *avx512_bf16_gemm();
}

}  // namespace aligndraw::cpu
