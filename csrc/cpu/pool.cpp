#include "pool.h"

#include <map>
#include <mutex>
#include <new>
#include <vector>

namespace aligndraw::cpu {
namespace {

constexpr std::align_val_t alignment{64};
constexpr size_t small = 1 << 20;  // less is left to the allocator
constexpr size_t most_kept = 1 << 30;

class Pool {
 public:
  void* take(size_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto found = free_.find(bytes);
    if (found == free_.end()) return nullptr;
    void* const data = found->second.back();
    found->second.pop_back();
    if (found->second.empty()) free_.erase(found);
    kept_ -= bytes;
    return data;
  }

  bool give(void* data, size_t bytes) {
    const std::lock_guard lock(mutex_);
    if (kept_ + bytes > most_kept) return false;
    free_[bytes].push_back(data);
    kept_ += bytes;
    return true;
  }

 private:
  std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;
  size_t kept_ = 0;
};

// Never destroyed: tensors may outlive all else.
Pool& pool() {
  static Pool& pool = *new Pool;
  return pool;
}

// Sizes that differ little share their blocks: an eighth of the size at most is wasted.
size_t rounded(size_t bytes) {
  size_t step = small / 8;
  while (step * 16 < bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

}  // namespace

void* take(size_t bytes) {
  if (bytes < small) return ::operator new(bytes, alignment);
  bytes = rounded(bytes);
  void* const kept = pool().take(bytes);
  return kept ? kept : ::operator new(bytes, alignment);
}

void give(void* data, size_t bytes) {
  if (bytes < small || !pool().give(data, rounded(bytes))) ::operator delete(data, alignment);
}

Tensor pooled(torch::headeronly::IntHeaderOnlyArrayRef shape, ScalarType type) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  size_t bytes = type == ScalarType::Double ? sizeof(double) : sizeof(float);
  for (const int64_t size : shape) bytes *= size;
  return torch::stable::from_blob(take(bytes), shape, {strides.data(), strides.size()},
                                  torch::stable::Device(torch::headeronly::DeviceType::CPU), type,
                                  [bytes](void* data) { give(data, bytes); });
}

}  // namespace aligndraw::cpu
