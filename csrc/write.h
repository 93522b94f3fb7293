// write in C++: its signatures and its checks.
//
//   forward:   patch [B, C, p, p], window [B, 5], canvas [B, C, H, W]  ->  the new canvas
//   backward:  grad of the new canvas, patch, window  ->  grad_patch, grad_window
//
// The new canvas has the dtype of the old one, and is the old one's gradient too. Strides are free,
// and B may be 0. The arithmetic is float32, or float64 when all are.
#pragma once
#include <tuple>

#include "check.h"

namespace aligndraw {

namespace cpu {
Tensor write(Tensor patch, Tensor window, Tensor canvas);
std::tuple<Tensor, Tensor> write_backward(Tensor grad, Tensor patch, Tensor window);
}  // namespace cpu

namespace cuda {
Tensor write(Tensor patch, Tensor window, Tensor canvas);
std::tuple<Tensor, Tensor> write_backward(Tensor grad, Tensor patch, Tensor window);
}  // namespace cuda

// `canvas_name`: the canvas itself, or the gradient of the new one.
inline void check_write(const char* op, const Tensor& patch, const Tensor& window,
                        const Tensor& canvas, const char* canvas_name) {
  check_shape(op, canvas_name, canvas, "[B, C, H, W]", {any, any, any, any});
  const int64_t batch = canvas.size(0), channels = canvas.size(1);
  const int64_t size = patch.dim() == 4 ? patch.size(3) : any;
  check_shape(op, "patch", patch, "[B, C, p, p]", {batch, channels, size, any});
  check_shape(op, "window", window, "[B, 5]", {batch, 5});
  if (size == 0) fail(op, ": patch must have p of at least 1, got ", shape_text(patch));
  check_float(op, {{"patch", patch}, {"window", window}, {canvas_name, canvas}});
}

}  // namespace aligndraw
