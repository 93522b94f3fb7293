// simd.h's vectors for any processor. To be included before any code that stands on them.
#pragma once
#include "../math/scalar.h"
#define ALIGNDRAW_KERNEL
#define ALIGNDRAW_KERNEL_INLINE ALIGNDRAW_INLINE
#define ALIGNDRAW_KERNEL_LAMBDA __attribute__((always_inline))
#define ALIGNDRAW_VECTOR_BYTES 16
#ifdef __aarch64__
#define ALIGNDRAW_VECTORS 32
#else
#define ALIGNDRAW_VECTORS 16
#endif
#include "simd.h"
