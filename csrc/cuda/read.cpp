#include "read.h"

#include "../read.h"
#include "glue.h"

namespace aligndraw::cuda {
namespace {

using aligndraw::as_contiguous;

std::optional<Tensor> as_contiguous(const std::optional<Tensor>& tensor) {
  return tensor ? std::optional(aligndraw::as_contiguous(*tensor)) : std::nullopt;
}

// Without a canvas its type is the image's, so that the choice of the kernel does not depend on it.
InputArray input_or_none(const std::optional<Tensor>& canvas, const Tensor& image) {
  return canvas ? input(*canvas) : InputArray{nullptr, type_of(image)};
}

GlimpseSizes sizes_of(const Tensor& image, int64_t size) {
  return {image.size(0), image.size(1), image.size(2), image.size(3), size};
}

}  // namespace

Tensor read(Tensor image, Tensor window, int64_t size, std::optional<Tensor> canvas) {
  check_read("read", image, window, size, canvas);
  check_counts("read", sizes_of(image, size));
  const OnDeviceOf device(image);
  image = as_contiguous(image);
  window = as_contiguous(window);
  canvas = as_contiguous(canvas);
  const int64_t channels = (canvas ? 2 : 1) * image.size(1);
  const Tensor glimpse = torch::stable::new_empty(image, {image.size(0), channels, size, size});
  check_launch("read", launch_read(input(image), input(window), input_or_none(canvas, image),
                                   output(glimpse), sizes_of(image, size), device.stream()));
  return glimpse;
}

std::tuple<Tensor, Tensor, Tensor> read_backward(Tensor grad, Tensor image, Tensor window,
                                                 int64_t size, std::optional<Tensor> canvas,
                                                 bool image_grad) {
  check_read_backward(grad, image, window, size, canvas);
  check_counts("read_backward", sizes_of(image, size));
  const OnDeviceOf device(image);
  grad = as_contiguous(grad);
  image = as_contiguous(image);
  window = as_contiguous(window);
  canvas = as_contiguous(canvas);
  const Tensor none = torch::stable::new_empty(image, {0});
  const Tensor grad_image = image_grad ? torch::stable::empty_like(image) : none;
  const Tensor grad_window = torch::stable::empty_like(window);
  const Tensor grad_canvas = canvas ? torch::stable::empty_like(*canvas) : none;
  check_launch(
      "read_backward",
      launch_read_backward(input(grad), input(image), input(window), input_or_none(canvas, image),
                           image_grad ? output(grad_image) : OutputArray{}, output(grad_window),
                           canvas ? output(grad_canvas) : OutputArray{}, sizes_of(image, size),
                           device.stream()));
  return {grad_image, grad_window, grad_canvas};
}

}  // namespace aligndraw::cuda
