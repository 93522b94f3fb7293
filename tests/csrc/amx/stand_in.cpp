#include "stand_in.h"

#ifdef __x86_64__
#undef __get_cpuid_count
#undef syscall

#include <atomic>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

namespace amx_stand_in {
namespace {

constexpr int tiles = 8, most_rows = 16, most_bytes = 64;

struct Tile {
  int rows = 0, bytes = 0;
  uint8_t data[most_rows][most_bytes] = {};
};

struct Registers {
  bool configured = false;
  Tile tiles[amx_stand_in::tiles];
};

thread_local Registers registers;
std::atomic<bool> permitted = false, refuses = false;
std::atomic<int> configured_threads = 0;

[[noreturn]] void fault(const char* what) { throw std::runtime_error(std::string("AMX: ") + what); }

Tile& configured(int tile) {
  if (!registers.configured) fault("the thread's tiles are not configured");
  if (tile < 0 || tile >= tiles) fault("there are 8 tiles");
  if (registers.tiles[tile].rows == 0) fault("the tile has no rows");
  return registers.tiles[tile];
}

float flushed(float x) { return std::fabs(x) < FLT_MIN ? std::copysign(0.0f, x) : x; }

// a b + c, rounded once, where subnormal numbers count as 0. The product of two bfloat16 numbers is
// exact in float unless its exponent is out of range.
float multiply_add(float a, float b, float c) {
  a = flushed(a), b = flushed(b), c = flushed(c);
  const float product = a * b;
  const bool exact = std::isnormal(product) || a == 0 || b == 0;
  return flushed(exact ? product + c : std::fmaf(a, b, c));
}

// A number of a pair as float.
float half(const uint8_t* pair, int number) {
  uint32_t bits;
  std::memcpy(&bits, pair, sizeof bits);
  bits = number == 0 ? bits << 16 : bits & 0xffff0000;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace

void load_config(const void* configuration) {
  struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  } wanted;
  static_assert(sizeof wanted == 64);
  if (!permitted) fault("Linux has not permitted tiles");
  std::memcpy(&wanted, configuration, sizeof wanted);
  if (wanted.palette != 1) fault("the palette must be 1");
  for (uint8_t byte : wanted.reserved)
    if (byte) fault("reserved bytes of the configuration must be 0");
  Registers fresh;
  for (int i = 0; i < 16; ++i) {
    const int rows = wanted.rows[i], bytes = wanted.bytes[i];
    if (rows > most_rows || bytes > most_bytes || (i >= tiles && (rows || bytes)))
      fault("a tile has at most 16 rows of 64 bytes");
    if ((rows == 0) != (bytes == 0)) fault("rows and bytes of a tile must both be 0 or neither");
    if (i < tiles) fresh.tiles[i].rows = rows, fresh.tiles[i].bytes = bytes;
  }
  if (!registers.configured) ++configured_threads;
  registers = fresh;
  registers.configured = true;
}

void release() {
  if (registers.configured) --configured_threads;
  registers = {};
}

void zero(int tile) {
  Tile& t = configured(tile);
  std::memset(t.data, 0, sizeof t.data);
}

void load(int tile, const void* base, ptrdiff_t stride) {
  zero(tile);
  Tile& t = configured(tile);
  for (int r = 0; r < t.rows; ++r)
    std::memcpy(t.data[r], static_cast<const uint8_t*>(base) + r * stride, t.bytes);
}

void store(int tile, void* base, ptrdiff_t stride) {
  const Tile& t = configured(tile);
  for (int r = 0; r < t.rows; ++r)
    std::memcpy(static_cast<uint8_t*>(base) + r * stride, t.data[r], t.bytes);
}

// For each element a chain of the pairs' first numbers and one of their second, from 0 on; their
// sum is added to what was there.
void multiply_bf16(int sums, int left, int right) {
  Tile &c = configured(sums), &a = configured(left), &b = configured(right);
  if (sums == left || sums == right || left == right) fault("the three tiles must differ");
  if (c.rows != a.rows || c.bytes != b.bytes || a.bytes != 4 * b.rows || c.bytes % 4)
    fault("the shapes of the three tiles do not fit");
  for (int m = 0; m < c.rows; ++m)
    for (int n = 0; n < c.bytes / 4; ++n) {
      float chains[2] = {};
      for (int k = 0; k < a.bytes / 4; ++k)
        for (int number = 0; number < 2; ++number)
          chains[number] = multiply_add(half(a.data[m] + 4 * k, number),
                                        half(b.data[k] + 4 * n, number), chains[number]);
      float sum;
      std::memcpy(&sum, c.data[m] + 4 * n, sizeof sum);
      sum = flushed(flushed(sum) + flushed(chains[0] + chains[1]));
      std::memcpy(c.data[m] + 4 * n, &sum, sizeof sum);
    }
  for (int m = 0; m < most_rows; ++m)
    std::memset(c.data[m] + (m < c.rows ? c.bytes : 0), 0, most_bytes - (m < c.rows ? c.bytes : 0));
}

int cpuid(unsigned leaf, unsigned part, unsigned* a, unsigned* b, unsigned* c, unsigned* d) {
  const int found = __get_cpuid_count(leaf, part, a, b, c, d);
  if (leaf == 7 && part == 0) *d |= 1u << 22 | 1u << 24;  // amx-bf16, amx-tile
  return found;
}

long permit(long code, long feature) {
  constexpr long request_permission = 0x1023, tile_data = 18;
  if (code != request_permission || feature != tile_data || refuses) return -1;
  permitted = true;
  return 0;
}

extern "C" {
// How many threads hold configured tiles.
__attribute__((visibility("default"))) int amx_configured_threads() { return configured_threads; }
// The permission, as if it had been asked for.
__attribute__((visibility("default"))) void amx_permit() { permitted = true; }
// A Linux that knows no tiles.
__attribute__((visibility("default"))) void amx_refuse() { refuses = true; }
}

}  // namespace amx_stand_in
#endif
