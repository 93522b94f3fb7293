#include "../write.h"

#include "glimpse_kernels.h"

namespace aligndraw::cpu {

void forward_row(WriteWorkspace<float>& workspace, const float* patch, const float* window,
                 const float* canvas, float* result) {
  glimpse_kernels<float>(isa()).write(workspace, patch, window, canvas, result);
}

void forward_row(WriteWorkspace<double>& workspace, const double* patch, const double* window,
                 const double* canvas, double* result) {
  glimpse_kernels<double>(isa()).write(workspace, patch, window, canvas, result);
}

void backward_row(WriteBackwardWorkspace<float>& workspace, const float* grad, const float* patch,
                  const float* window, float* grad_patch, float* grad_window) {
  glimpse_kernels<float>(isa()).write_backward(workspace, grad, patch, window, grad_patch,
                                               grad_window);
}

void backward_row(WriteBackwardWorkspace<double>& workspace, const double* grad,
                  const double* patch, const double* window, double* grad_patch,
                  double* grad_window) {
  glimpse_kernels<double>(isa()).write_backward(workspace, grad, patch, window, grad_patch,
                                                grad_window);
}

namespace {

template <class T>
Tensor run_forward(const Tensor& patch, const Tensor& window, const Tensor& canvas) {
  const int64_t batch = canvas.size(0), channels = canvas.size(1), height = canvas.size(2);
  const int64_t width = canvas.size(3), size = patch.size(3), volume = channels * height * width;
  const Tensor result = pooled_like(canvas);
  const T *patch_data = patch.const_data_ptr<T>(), *window_data = window.const_data_ptr<T>();
  const T* canvas_data = canvas.const_data_ptr<T>();
  T* result_data = result.mutable_data_ptr<T>();
  for_row_ranges(batch, volume, [=](int64_t begin, int64_t end) {
    const FlushSubnormals flush;
    WriteWorkspace<T> workspace(channels, height, width, size);
    for (int64_t b = begin; b < end; ++b)
      forward_row(workspace, patch_data + b * channels * size * size, window_data + 5 * b,
                  canvas_data + b * volume, result_data + b * volume);
  });
  return result;
}

template <class T>
std::tuple<Tensor, Tensor> run_backward(const Tensor& grad, const Tensor& patch,
                                        const Tensor& window) {
  const int64_t batch = grad.size(0), channels = grad.size(1), height = grad.size(2);
  const int64_t width = grad.size(3), size = patch.size(3), volume = channels * height * width;
  const int64_t patch_volume = channels * size * size;
  const Tensor grad_patch = pooled_like(patch);
  const Tensor grad_window = pooled_like(window);
  const T *grad_data = grad.const_data_ptr<T>(), *patch_data = patch.const_data_ptr<T>();
  const T* window_data = window.const_data_ptr<T>();
  T* grad_patch_data = grad_patch.mutable_data_ptr<T>();
  T* grad_window_data = grad_window.mutable_data_ptr<T>();
  for_row_ranges(batch, volume, [=](int64_t begin, int64_t end) {
    const FlushSubnormals flush;
    WriteBackwardWorkspace<T> workspace(channels, height, width, size);
    for (int64_t b = begin; b < end; ++b)
      backward_row(workspace, grad_data + b * volume, patch_data + b * patch_volume,
                   window_data + 5 * b, grad_patch_data + b * patch_volume,
                   grad_window_data + 5 * b);
  });
  return {grad_patch, grad_window};
}

}  // namespace

Tensor write(Tensor patch, Tensor window, Tensor canvas) {
  check_write("write", patch, window, canvas, "canvas");
  const auto run = is_double(canvas) ? run_forward<double> : run_forward<float>;
  return as_type(run(for_arithmetic(patch), for_arithmetic(window), for_arithmetic(canvas)),
                 canvas.scalar_type());
}

std::tuple<Tensor, Tensor> write_backward(Tensor grad, Tensor patch, Tensor window) {
  check_write("write_backward", patch, window, grad, "grad");
  const auto run = is_double(grad) ? run_backward<double> : run_backward<float>;
  const auto [grad_patch, grad_window] =
      run(for_arithmetic(grad), for_arithmetic(patch), for_arithmetic(window));
  return {as_type(grad_patch, patch.scalar_type()), as_type(grad_window, window.scalar_type())};
}

}  // namespace aligndraw::cpu
