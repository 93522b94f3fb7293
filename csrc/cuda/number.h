// The types that arrays hold, and the one that kernels calculate in: float, or double for double.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "array.h"

namespace aligndraw::cuda {

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }

__device__ __forceinline__ void store(float* p, float x) { *p = x; }
__device__ __forceinline__ void store(double* p, double x) { *p = x; }
__device__ __forceinline__ void store(__nv_bfloat16* p, float x) { *p = __float2bfloat16_rn(x); }
__device__ __forceinline__ void store(__half* p, float x) { *p = __float2half_rn(x); }

// f<T>() for the T of an array that is not float64.
template <class F>
auto with_type(Type type, const F& f) {
  switch (type) {
    case Type::bfloat16: return f.template operator()<__nv_bfloat16>();
    case Type::float16: return f.template operator()<__half>();
    default: return f.template operator()<float>();
  }
}

// f<T, S>() for the types of two arrays; float64 comes with float64 only.
template <class F>
auto with_types(Type first, Type second, const F& f) {
  if (first == Type::float64) return f.template operator()<double, double>();
  return with_type(first, [&]<class T>() {
    return with_type(second, [&]<class S>() { return f.template operator()<T, S>(); });
  });
}

}  // namespace aligndraw::cuda
