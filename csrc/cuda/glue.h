// Between PyTorch's tensors and the launchers: devices, streams, types and errors.
#pragma once
#include <torch/csrc/stable/accelerator.h>

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

inline void check_launch(const char* op, const char* error) {
  if (error) fail(op, ": CUDA: ", error);
}

}  // namespace aligndraw::cuda
