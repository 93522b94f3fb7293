#include "isa.h"

#include <algorithm>
#include <cstdlib>

#include "../check.h"
#include "compiler.h"

#ifdef ALIGNDRAW_X86
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace aligndraw::cpu {
namespace {

#ifdef ALIGNDRAW_X86

struct Leaf {
  unsigned a = 0, b = 0, c = 0, d = 0;
  Leaf(unsigned leaf, unsigned part) { __get_cpuid_count(leaf, part, &a, &b, &c, &d); }
};

// Whether Linux saves the tiles' registers, and lets the process use them.
bool permits_tiles() {
  constexpr long request_permission = 0x1023, tile_data = 18;
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

Isa found_isa() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Isa::portable;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512vl"))
    return Isa::avx2;
  const bool has_bf16 = Leaf(7, 1).a >> 5 & 1;
  if (!has_bf16) return Isa::avx512;
  const unsigned d = Leaf(7, 0).d;
  const bool has_tiles = (d >> 22 & 1) && (d >> 24 & 1);  // amx-bf16, amx-tile
  return has_tiles && permits_tiles() ? Isa::amx : Isa::avx512_bf16;
}

#else

Isa found_isa() { return Isa::portable; }

#endif

Isa chosen_isa() {
  const char* const wanted = std::getenv("ALIGNDRAW_ISA");
  if (!wanted || !*wanted) return best_isa();
  const auto found = std::find(std::begin(isa_names), std::end(isa_names), std::string(wanted));
  if (found == std::end(isa_names))
    fail("ALIGNDRAW_ISA must be portable, avx2, avx512, avx512_bf16 or amx, got ", wanted);
  const Isa chosen = Isa(found - isa_names);
  if (chosen > best_isa())
    fail("ALIGNDRAW_ISA is ", wanted, ", which this machine lacks: it has ",
         isa_names[int64_t(best_isa())], ", unset ALIGNDRAW_ISA to use it");
  return chosen;
}

}  // namespace

Isa best_isa() {
  static const Isa found = found_isa();
  return found;
}

Isa isa() {
  static const Isa chosen = chosen_isa();
  return chosen;
}

Isa checked_isa(const char* op, int64_t number) {
  const int64_t last = best_isa_number();
  if (number < 0 || number > last)
    fail(op, ": isa must be in 0 ... ", last, " on this machine, got ", number);
  return Isa(number);
}

int64_t isa_number() { return int64_t(isa()); }
int64_t best_isa_number() { return int64_t(best_isa()); }

}  // namespace aligndraw::cpu
