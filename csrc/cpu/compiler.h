// How functions are compiled for the ISAs of isa.h.
#pragma once

// x86-64 on Linux, by g++ 11, clang 12 or later: they know every ISA here.
#if defined(__x86_64__) && defined(__linux__) && \
    ((defined(__clang__) && __clang_major__ >= 12) || (!defined(__clang__) && __GNUC__ >= 11))
#define ALIGNDRAW_X86
#define ALIGNDRAW_AVX2_ISA "avx2,fma"
#define ALIGNDRAW_AVX512_ISA "avx512f,avx512bw,avx512vl"
#define ALIGNDRAW_AVX512_BF16_ISA "avx512f,avx512bw,avx512vl,avx512bf16"
#define ALIGNDRAW_AMX_ISA "amx-tile,amx-bf16"

#define ALIGNDRAW_TARGET(isa) __attribute__((target(isa)))
#define ALIGNDRAW_TARGET_INLINE(isa) inline __attribute__((target(isa), always_inline))
#endif
