// The instruction set of all CPU kernels.
#pragma once
#include <cstdint>
#include <string>

namespace aligndraw::cpu {

// Each includes those before it.
enum class Isa : int64_t { portable, avx2, avx512, avx512_bf16, amx };
constexpr const char* isa_names[] = {"portable", "avx2", "avx512", "avx512_bf16", "amx"};

// The last one that the processor, the operating system and the compiler know.
Isa best_isa();

// The ISA that is used: best_isa(), or an earlier one that ALIGNDRAW_ISA names.
//
// Throws std::runtime_error if ALIGNDRAW_ISA names no ISA, or one that this machine lacks.
Isa isa();

// The ISA of a number, which must not be above best_isa().
Isa checked_isa(const char* op, int64_t number);

// The ops `isa` and `best_isa`: their numbers.
int64_t isa_number();
int64_t best_isa_number();

}  // namespace aligndraw::cpu
