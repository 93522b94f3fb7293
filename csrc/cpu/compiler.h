// How functions are compiled for the ISAs of isa.h, by g++ and by clang. (clang lets neither
// lambdas nor OpenMP's loops use a structured binding: name the members there.)
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

// Before a function that is no template: compiles it for AVX-512, for AVX2 and for any x86-64, and
// the loader takes the best that the machine runs. Its declaration in a header has
// ALIGNDRAW_HAS_CLONES before it: clang before 19 finds the versions of another file by that alone,
// and g++ must not have it.
//
// g++ before 12 does not know the levels' names. clang 16 and 17 take them, and their resolver
// never chooses one. clang before 16 calls an empty function in place of another file's versions.
#if !defined(__x86_64__) || !defined(__linux__) || (defined(__clang__) && __clang_major__ < 16)
#define ALIGNDRAW_CLONES
#elif defined(__clang__) && __clang_major__ < 19
#define ALIGNDRAW_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#define ALIGNDRAW_HAS_CLONES ALIGNDRAW_CLONES
#elif defined(__clang__) || __GNUC__ >= 12
#define ALIGNDRAW_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define ALIGNDRAW_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#ifndef ALIGNDRAW_HAS_CLONES
#define ALIGNDRAW_HAS_CLONES
#endif
