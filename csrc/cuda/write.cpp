#include "write.h"

#include "../write.h"
#include "glue.h"

namespace aligndraw::cuda {
namespace {

GlimpseSizes sizes_of(const Tensor& canvas, const Tensor& patch) {
  return {canvas.size(0), canvas.size(1), canvas.size(2), canvas.size(3), patch.size(3)};
}

}  // namespace

Tensor write(Tensor patch, Tensor window, Tensor canvas) {
  check_write("write", patch, window, canvas, "canvas");
  check_counts("write", sizes_of(canvas, patch));
  const OnDeviceOf device(canvas);
  patch = as_contiguous(patch);
  window = as_contiguous(window);
  canvas = as_contiguous(canvas);
  const Tensor result = torch::stable::empty_like(canvas);
  check_launch("write", launch_write(input(patch), input(window), input(canvas), output(result),
                                     sizes_of(canvas, patch), device.stream()));
  return result;
}

std::tuple<Tensor, Tensor> write_backward(Tensor grad, Tensor patch, Tensor window) {
  check_write("write_backward", patch, window, grad, "grad");
  check_counts("write_backward", sizes_of(grad, patch));
  const OnDeviceOf device(grad);
  grad = as_contiguous(grad);
  patch = as_contiguous(patch);
  window = as_contiguous(window);
  const Tensor grad_patch = torch::stable::empty_like(patch);
  const Tensor grad_window = torch::stable::empty_like(window);
  check_launch("write_backward",
               launch_write_backward(input(grad), input(patch), input(window), output(grad_patch),
                                     output(grad_window), sizes_of(grad, patch), device.stream()));
  return {grad_patch, grad_window};
}

}  // namespace aligndraw::cuda
