#include <cstring>

#include "packed_decoder.h"

namespace aligndraw::cpu {
namespace {

constexpr int64_t lanes = 32, block = 1 << 12;  // 64-bit words; a thread takes whole blocks

// Of a word and the words before it: every word can be told from the result and the others.
ALIGNDRAW_INLINE uint64_t mixed(uint64_t before, uint64_t word) {
  const uint64_t product = (before ^ word) * 0x9e3779b97f4a7c15;
  return product ^ product >> 32;
}

}  // namespace

// Of `count` words, a multiple of `lanes`.
ALIGNDRAW_CLONES uint64_t fingerprint_words(const uint64_t* words, int64_t count, uint64_t seed) {
  uint64_t state[lanes];
  for (int64_t j = 0; j < lanes; ++j) state[j] = seed + j;
  for (int64_t i = 0; i < count; i += lanes)
    for (int64_t j = 0; j < lanes; ++j) state[j] = mixed(state[j], words[i + j]);
  for (int64_t j = 0; j < lanes; ++j) seed = mixed(seed, state[j]);
  return seed;
}

int64_t fingerprint(std::vector<Tensor> tensors) {
  uint64_t total = 0;
  for (Tensor& tensor : tensors) {
    tensor = as_contiguous(tensor);
    const int64_t bytes = tensor.numel() * tensor.element_size();
    const auto* const data = static_cast<const char*>(tensor.data_ptr());
    const int64_t words = bytes / 8, blocks = words / block;
    std::atomic<uint64_t> sum = 0;
    parallel_for(0, blocks, 2, [&](int64_t begin, int64_t end) {
      uint64_t part = 0;
      for (int64_t b = begin; b < end; ++b)
        part += fingerprint_words(reinterpret_cast<const uint64_t*>(data) + b * block, block,
                                  mixed(b, lanes));
      sum += part;
    });
    uint64_t rest[block + lanes] = {};
    std::memcpy(rest, data + blocks * block * 8, bytes - blocks * block * 8);
    const int64_t count = (words - blocks * block + lanes) / lanes * lanes;
    total = mixed(mixed(total, bytes), sum + fingerprint_words(rest, count, ~uint64_t(0)));
  }
  return int64_t(total);
}

}  // namespace aligndraw::cpu
