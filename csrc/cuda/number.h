// The element types of arrays, and the type of the arithmetic: float, or double for double.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>

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

__device__ __forceinline__ float rounded_to_bfloat16(float x) {
  return widen(__float2bfloat16_rn(x));
}
__device__ __forceinline__ double rounded_to_bfloat16(double x) { return x; }

// Calls f<T>() with the element type T of an array that is not float64.
template <class F>
auto with_type(Type type, const F& f) {
  switch (type) {
    case Type::bfloat16:
      return f.template operator()<__nv_bfloat16>();
    case Type::float16:
      return f.template operator()<__half>();
    default:
      return f.template operator()<float>();
  }
}

// Calls f<T, S>() with the element types of two arrays. float64 comes with float64 only.
template <class F>
auto with_types(Type first, Type second, const F& f) {
  if (first == Type::float64) return f.template operator()<double, double>();
  return with_type(first, [&]<class T>() {
    return with_type(second, [&]<class S>() { return f.template operator()<T, S>(); });
  });
}

// A kernel's access to its arrays. With Exact all of them have the type of the arithmetic.
template <class T>
struct Exact {
  using Number = T;
  static __device__ __forceinline__ T load(InputArray array, int64_t i) {
    return __ldg(static_cast<const T*>(array.data) + i);
  }
  static __device__ __forceinline__ void store(OutputArray array, int64_t i, T x) {
    static_cast<T*>(array.data)[i] = x;
  }
};

// With Mixed each array has a type of its own, not float64, that is known when the kernel runs. One
// kernel per combination would be up to 81 kernels.
struct Mixed {
  using Number = float;
  static __device__ __forceinline__ float load(InputArray array, int64_t i) {
    switch (array.type) {
      case Type::bfloat16:
        return widen(static_cast<const __nv_bfloat16*>(array.data)[i]);
      case Type::float16:
        return widen(static_cast<const __half*>(array.data)[i]);
      default:
        return __ldg(static_cast<const float*>(array.data) + i);
    }
  }
  static __device__ __forceinline__ void store(OutputArray array, int64_t i, float x) {
    switch (array.type) {
      case Type::bfloat16:
        return cuda::store(static_cast<__nv_bfloat16*>(array.data) + i, x);
      case Type::float16:
        return cuda::store(static_cast<__half*>(array.data) + i, x);
      default:
        static_cast<float*>(array.data)[i] = x;
    }
  }
};

// Calls f<F>() with the access F to arrays of these types.
template <class F>
auto with_access(std::initializer_list<Type> types, const F& f) {
  const auto all = [&](Type type) {
    return std::all_of(types.begin(), types.end(), [=](Type t) { return t == type; });
  };
  if (all(Type::float64)) return f.template operator()<Exact<double>>();
  if (all(Type::float32)) return f.template operator()<Exact<float>>();
  return f.template operator()<Mixed>();
}

}  // namespace aligndraw::cuda
