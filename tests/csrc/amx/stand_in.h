// A stand-in for the instructions of AMX, for tests on any x86-64. The compiler reads it before the
// sources of csrc/cpu (`-include`), whose calls then go to stand_in.cpp.
//
// It follows the instructions' descriptions in Intel's manual. What a processor answers with a
// fault, or Linux with a signal, is an exception here.
#pragma once
#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <type_traits>

namespace amx_stand_in {

void load_config(const void* configuration);
void release();
void zero(int tile);
void load(int tile, const void* base, ptrdiff_t stride);
void store(int tile, void* base, ptrdiff_t stride);
void multiply_bf16(int sums, int left, int right);

// __get_cpuid_count of a processor with AMX.
int cpuid(unsigned leaf, unsigned part, unsigned* a, unsigned* b, unsigned* c, unsigned* d);
// Linux's arch_prctl.
long permit(long code, long feature);

template <class... Arguments>
long system_call(long number, Arguments... arguments) {
  if constexpr (sizeof...(arguments) == 2 && (std::is_integral_v<Arguments> && ...))
    if (number == SYS_arch_prctl) return permit(arguments...);
  return ::syscall(number, arguments...);
}

}  // namespace amx_stand_in

#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig amx_stand_in::load_config
#define _tile_release amx_stand_in::release
#define _tile_zero amx_stand_in::zero
#define _tile_loadd amx_stand_in::load
#define _tile_stored amx_stand_in::store
#define _tile_dpbf16ps amx_stand_in::multiply_bf16
#define __get_cpuid_count amx_stand_in::cpuid
#define syscall amx_stand_in::system_call
#endif
