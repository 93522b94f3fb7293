// Between PyTorch's tensors and the launchers: devices, streams, types and errors.
#pragma once
#include <torch/csrc/stable/accelerator.h>

#include <algorithm>
#include <initializer_list>
#include <optional>

#include "../check.h"
#include "array.h"

// Part of libtorch_cuda. A CPU build of torch lacks it and never calls these ops.
extern "C" __attribute__((weak)) int32_t aoti_torch_get_current_cuda_stream(int32_t device,
                                                                            void** stream);

namespace aligndraw::cuda {

// Makes the tensor's device the current one while it lives. A CPU tensor, from the tests' stand-in
// for the CUDA runtime, has no device and no stream.
class OnDeviceOf {
 public:
  explicit OnDeviceOf(const Tensor& tensor) {
    if (!tensor.is_cuda()) return;
    const int32_t device = tensor.get_device_index();
    guard_.emplace(device);
    void* stream = nullptr;
    if (!aoti_torch_get_current_cuda_stream ||
        aoti_torch_get_current_cuda_stream(device, &stream) != 0)
      fail("no CUDA stream: this build of torch has no CUDA");
    stream_ = static_cast<CUstream_st*>(stream);
  }

  // PyTorch's current stream.
  CUstream_st* stream() const { return stream_; }

 private:
  std::optional<torch::stable::accelerator::DeviceGuard> guard_;
  CUstream_st* stream_ = nullptr;
};

inline Type type_of(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Double:
      return Type::float64;
    case ScalarType::BFloat16:
      return Type::bfloat16;
    case ScalarType::Half:
      return Type::float16;
    default:
      return Type::float32;
  }
}

inline InputArray input(const Tensor& tensor) { return {tensor.const_data_ptr(), type_of(tensor)}; }
inline OutputArray output(const Tensor& tensor) {
  return {tensor.mutable_data_ptr(), type_of(tensor)};
}

// The dtype of the arithmetic, and of results that are never stored in half precision.
inline ScalarType arithmetic_type(const Tensor& tensor) {
  return tensor.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// Kernels number the items of a batch, and the elements of one item, by 32 bits. A loop's last step
// beyond the end still fits.
inline void check_count(const char* op, const char* of, std::initializer_list<int64_t> sizes) {
  int64_t count = 1;
  for (const int64_t size : sizes) count *= std::max<int64_t>(1, size);
  if (count > int64_t(1) << 30) fail(op, ": on a GPU ", of, " must be at most 2**30, got ", count);
}

inline void check_counts(const char* op, const GlimpseSizes& s) {
  check_count(op, "the pixels of an image", {s.channels, s.height, s.width});
  check_count(op, "the numbers of a patch", {2, s.channels, s.size, s.size});
  check_count(op, "the channels of all glimpses", {2, s.batch, s.channels});
}

inline void check_launch(const char* op, const char* error) {
  if (error) fail(op, ": CUDA: ", error);
}

}  // namespace aligndraw::cuda
