// read in C++: its signatures and its checks.
//
//   forward:   image [B, C, H, W], window [B, 5], size p, canvas like image or none
//              ->  glimpse [B, C, p, p], or [B, 2C, p, p] with a canvas
//   backward:  grad of the glimpse, the arguments, whether the image's gradient is wanted
//              ->  grad_image, grad_window, grad_canvas; an empty tensor where not wanted
//
// The glimpse and its gradient have the dtype of the image. Strides are free, and B may be 0. The
// arithmetic is float32, or float64 when all are.
#pragma once
#include <optional>
#include <tuple>

#include "check.h"

namespace aligndraw {

namespace cpu {
Tensor read(Tensor image, Tensor window, int64_t size, std::optional<Tensor> canvas);
std::tuple<Tensor, Tensor, Tensor> read_backward(Tensor grad, Tensor image, Tensor window,
                                                 int64_t size, std::optional<Tensor> canvas,
                                                 bool image_grad);
}  // namespace cpu

namespace cuda {
Tensor read(Tensor image, Tensor window, int64_t size, std::optional<Tensor> canvas);
std::tuple<Tensor, Tensor, Tensor> read_backward(Tensor grad, Tensor image, Tensor window,
                                                 int64_t size, std::optional<Tensor> canvas,
                                                 bool image_grad);
}  // namespace cuda

inline void check_read(const char* op, const Tensor& image, const Tensor& window, int64_t size,
                       const std::optional<Tensor>& canvas) {
  check_shape(op, "image", image, "[B, C, H, W]", {any, any, any, any});
  check_shape(op, "window", window, "[B, 5]", {image.size(0), 5});
  if (size < 1) fail(op, ": size must be at least 1, got ", size);
  check_sizes(op, "the glimpse", {image.size(0), (canvas ? 2 : 1) * image.size(1), size, size});
  if (!canvas) return check_float(op, {{"image", image}, {"window", window}});
  check_shape(op, "canvas", *canvas, "[B, C, H, W]",
              {image.size(0), image.size(1), image.size(2), image.size(3)});
  check_float(op, {{"image", image}, {"window", window}, {"canvas", *canvas}});
}

inline void check_read_backward(const Tensor& grad, const Tensor& image, const Tensor& window,
                                int64_t size, const std::optional<Tensor>& canvas) {
  const char* op = "read_backward";
  check_read(op, image, window, size, canvas);
  check_shape(op, "grad", grad, canvas ? "[B, 2C, p, p]" : "[B, C, p, p]",
              {image.size(0), (canvas ? 2 : 1) * image.size(1), size, size});
  check_float(op, {{"image", image}, {"grad", grad}});
}

}  // namespace aligndraw
