// Products on tensor cores: PTX's mma.sync in small functions, and the product of 16 numbers per
// row in each type of weights.
//
// Lane (g, t) = (lane / 4, lane % 4) of a warp holds, of D [16, 8] += A [16, k] B [k, 8]:
//
//   D   rows g and g + 8, columns 2t and 2t + 1
//   A   rows g and g + 8, the k of in-group t
//   B   column g, the k of in-group t
//
// The order of k is free, as long as A and B agree. Hence a lane takes four neighbouring numbers of
// each of its rows and columns, one vector load each.
#pragma once
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace aligndraw::cuda::mma {

template <class N>
struct alignas(sizeof(N) < 4 ? 8 : 16) Quad {
  N x[4];
};

#ifdef CUDA_ON_CPU
using cuda_on_cpu::Tile, cuda_on_cpu::multiply_fragments;
inline void tile(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], CUDA_ON_CPU_HERE) {
  multiply_fragments(Tile::tf32_m16n8k8, d, a, b, file, line);
}
inline void tile(float (&d)[4], const __nv_bfloat162 (&a)[4], const __nv_bfloat162 (&b)[2],
                 CUDA_ON_CPU_HERE) {
  multiply_fragments(Tile::bf16_m16n8k16, d, a, b, file, line);
}
inline void tile(double (&d)[4], const double (&a)[4], const double (&b)[2], CUDA_ON_CPU_HERE) {
  multiply_fragments(Tile::f64_m16n8k8, d, a, b, file, line);
}
#else
// k = 8 of TF32.
__device__ __forceinline__ void tile(float (&d)[4], const uint32_t (&a)[4],
                                     const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// k = 16 of bfloat16.
__device__ __forceinline__ void tile(float (&d)[4], const __nv_bfloat162 (&a)[4],
                                     const __nv_bfloat162 (&b)[2]) {
  const auto bits = [](const __nv_bfloat162& x) { return reinterpret_cast<const uint32_t&>(x); };
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(bits(a[0])), "r"(bits(a[1])), "r"(bits(a[2])), "r"(bits(a[3])), "r"(bits(b[0])),
        "r"(bits(b[1])));
}
// k = 8 of float64, from compute capability 9.0 on.
__device__ __forceinline__ void tile(double (&d)[4], const double (&a)[4], const double (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f64.f64.f64.f64 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+d"(d[0]), "+d"(d[1]), "+d"(d[2]), "+d"(d[3])
      : "d"(a[0]), "d"(a[1]), "d"(a[2]), "d"(a[3]), "d"(b[0]), "d"(b[1]));
}
#endif

// The two tiles of k = 8 in four numbers per lane: pair p = 0, 1 takes the numbers 2p and 2p + 1.
template <class N, class Element>
__device__ __forceinline__ void of_rows(N (&a)[4], const Element& element, int h, int p) {
#pragma unroll
  for (int i = 0; i < 4; ++i) a[i] = element(2 * h + i % 2, 2 * p + i / 2);
}

// d [h][c] += the product of rows 16h ... 16h + 15 and columns 8c ... 8c + 7 over 16 k. weights[i]
// is of row 8i + g, states[c] of column 8c + g.
__device__ __forceinline__ void multiply(double (&d)[2][2][4], const Quad<double> (&weights)[4],
                                         const Quad<double> (&states)[2]) {
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int p = 0; p < 2; ++p) {
      double a[4];
      of_rows(a, [&](int i, int k) { return weights[i].x[k]; }, h, p);
#pragma unroll
      for (int c = 0; c < 2; ++c) tile(d[h][c], a, {states[c].x[2 * p], states[c].x[2 * p + 1]});
    }
}

// x = high + low, both TF32 but for the last bit of x. high is rounded to nearest; of low the
// tensor cores drop the bits that TF32 has not. Infinities and NaNs make low NaN.
__device__ __forceinline__ uint32_t high(float x) {
  return (__float_as_uint(x) + 0x1000u) & ~0x1fffu;
}
__device__ __forceinline__ uint32_t low(float x) {
  return __float_as_uint(x - __uint_as_float(high(x)));
}

// Float with the exactness of float32: three of the four products of high and low count. The tensor
// cores round sums towards zero, so the large and the small products have sums of their own, and
// ordinary additions sum the chunks.
__device__ __forceinline__ void multiply(float (&d)[2][2][4], const Quad<float> (&weights)[4],
                                         const Quad<float> (&states)[2]) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float large[2][4] = {}, small[2][4] = {};
#pragma unroll
    for (int p = 0; p < 2; ++p) {
      uint32_t a[4], rest[4];
      of_rows(a, [&](int i, int k) { return high(weights[i].x[k]); }, h, p);
      of_rows(rest, [&](int i, int k) { return low(weights[i].x[k]); }, h, p);
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const float first = states[c].x[2 * p], second = states[c].x[2 * p + 1];
        const uint32_t b[2] = {high(first), high(second)};
        tile(small[c], rest, b);
        tile(small[c], a, {low(first), low(second)});
        tile(large[c], a, b);
      }
    }
#pragma unroll
    for (int c = 0; c < 2; ++c)
#pragma unroll
      for (int i = 0; i < 4; ++i) d[h][c][i] += large[c][i] + small[c][i];
  }
}

// Factors rounded to bfloat16, sums in float.
__device__ __forceinline__ void multiply(float (&d)[2][2][4],
                                         const Quad<__nv_bfloat16> (&weights)[4],
                                         const Quad<float> (&states)[2]) {
  const auto pair = [&](int i, int p) {
    return __nv_bfloat162{weights[i].x[2 * p], weights[i].x[2 * p + 1]};
  };
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    const auto& x = states[c].x;
    const __nv_bfloat162 b[2] = {__floats2bfloat162_rn(x[0], x[1]),
                                 __floats2bfloat162_rn(x[2], x[3])};
#pragma unroll
    for (int h = 0; h < 2; ++h)
      tile(d[h][c], {pair(2 * h, 0), pair(2 * h + 1, 0), pair(2 * h, 1), pair(2 * h + 1, 1)}, b);
  }
}

}  // namespace aligndraw::cuda::mma
