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
  void* allocate(size_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto found = free_.find(bytes);
    if (found == free_.end()) return nullptr;
    void* const data = found->second.back();
    found->second.pop_back();
    if (found->second.empty()) free_.erase(found);
    kept_ -= bytes;
    return data;
  }

  // Releases all that is kept back to the allocator.
  void clear() {
    const std::lock_guard lock(mutex_);
    for (const auto& [bytes, blocks] : free_)
      for (void* const data : blocks) ::operator delete(data, alignment);
    free_.clear();
    kept_ = 0;
  }

  bool release(void* data, size_t bytes) {
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

void* fresh(size_t bytes) {
  void* data = ::operator new(bytes, alignment, std::nothrow);
  if (data) return data;
  pool().clear();
  data = ::operator new(bytes, alignment, std::nothrow);
  if (!data) fail("aligndraw: there is no memory for an array of ", bytes, " bytes");
  return data;
}

}  // namespace

size_t bytes_of(int64_t count, size_t element) {
  constexpr int64_t most = int64_t(1)
                           << 56;  // more than any machine has; times an element it fits 64 bits
  if (count < 0 || count > most)
    fail("aligndraw: there is no memory for an array of ", count, " elements");
  return size_t(count) * element;
}

void* allocate(size_t bytes) {
  if (bytes < small) return fresh(bytes);
  bytes = rounded(bytes);
  void* const kept = pool().allocate(bytes);
  return kept ? kept : fresh(bytes);
}

void release(void* data, size_t bytes) {
  if (bytes < small || !pool().release(data, rounded(bytes))) ::operator delete(data, alignment);
}

Tensor pooled(Sizes shape, ScalarType type) {
  std::vector<int64_t> strides(shape.size());
  int64_t count = 1;  // with 1 for a size of 0, as PyTorch counts strides
  bool empty = false;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = count;
    empty = empty || shape[i] == 0;
    if (__builtin_mul_overflow(count, std::max<int64_t>(1, shape[i]), &count))
      fail("aligndraw: there is no memory for an array of shape ", shape_text(shape));
  }
  const size_t bytes =
      bytes_of(empty ? 0 : count, type == ScalarType::Double ? sizeof(double) : sizeof(float));
  return torch::stable::from_blob(allocate(bytes), shape, {strides.data(), strides.size()},
                                  torch::stable::Device(torch::headeronly::DeviceType::CPU), type,
                                  [bytes](void* data) { release(data, bytes); });
}

}  // namespace aligndraw::cpu
