#include "../read.h"

#include "glimpse_kernels.h"

namespace aligndraw::cpu {

void forward_row(ReadWorkspace<float>& workspace, const Image<float>& image, float* result) {
  glimpse_kernels<float>(isa()).read(workspace, image, result);
}

void forward_row(ReadWorkspace<double>& workspace, const Image<double>& image, double* result) {
  glimpse_kernels<double>(isa()).read(workspace, image, result);
}

void backward_row(ReadBackwardWorkspace<float>& workspace, const Image<float>& image,
                  const float* grad, const ImageGrads<float>& grads) {
  glimpse_kernels<float>(isa()).read_backward(workspace, image, grad, grads);
}

void backward_row(ReadBackwardWorkspace<double>& workspace, const Image<double>& image,
                  const double* grad, const ImageGrads<double>& grads) {
  glimpse_kernels<double>(isa()).read_backward(workspace, image, grad, grads);
}

namespace {

template <class T>
const T* data(const std::optional<Tensor>& tensor) {
  return tensor ? tensor->const_data_ptr<T>() : nullptr;
}

template <class T>
T* part(T* data, int64_t offset) {
  return data ? data + offset : nullptr;
}

template <class T>
Tensor run_forward(const Tensor& image, const Tensor& window, int64_t size,
                   const std::optional<Tensor>& canvas) {
  const int64_t batch = image.size(0), channels = image.size(1), height = image.size(2);
  const int64_t width = image.size(3), volume = channels * height * width;
  const int64_t glimpse_channels = canvas ? 2 * channels : channels;
  const Tensor result = pooled({batch, glimpse_channels, size, size}, image.scalar_type());
  const T *image_data = image.const_data_ptr<T>(), *window_data = window.const_data_ptr<T>();
  const T* canvas_data = data<T>(canvas);
  T* result_data = result.mutable_data_ptr<T>();
  for_row_ranges(batch, glimpse_channels * height * width, [=](int64_t begin, int64_t end) {
    const FlushSubnormals flush;
    ReadWorkspace<T> workspace(channels, height, width, size, canvas_data != nullptr);
    for (int64_t b = begin; b < end; ++b)
      forward_row(workspace,
                  {image_data + b * volume, part(canvas_data, b * volume), window_data + 5 * b},
                  result_data + b * glimpse_channels * size * size);
  });
  return result;
}

template <class T>
std::tuple<Tensor, Tensor, Tensor> run_backward(const Tensor& grad, const Tensor& image,
                                                const Tensor& window, int64_t size,
                                                const std::optional<Tensor>& canvas,
                                                bool image_grad) {
  const int64_t batch = image.size(0), channels = image.size(1), height = image.size(2);
  const int64_t width = image.size(3), volume = channels * height * width;
  const int64_t glimpse_channels = canvas ? 2 * channels : channels;
  const Tensor none = pooled({0}, image.scalar_type());
  const Tensor grad_image = image_grad ? pooled_like(image) : none;
  const Tensor grad_window = pooled_like(window);
  const Tensor grad_canvas = canvas ? pooled_like(*canvas) : none;
  const T *grad_data = grad.const_data_ptr<T>(), *image_data = image.const_data_ptr<T>();
  const T *window_data = window.const_data_ptr<T>(), *canvas_data = data<T>(canvas);
  T* grad_image_data = image_grad ? grad_image.mutable_data_ptr<T>() : nullptr;
  T* grad_window_data = grad_window.mutable_data_ptr<T>();
  T* grad_canvas_data = canvas ? grad_canvas.mutable_data_ptr<T>() : nullptr;
  for_row_ranges(batch, glimpse_channels * height * width, [=](int64_t begin, int64_t end) {
    const FlushSubnormals flush;
    ReadBackwardWorkspace<T> workspace(channels, height, width, size, canvas_data != nullptr);
    for (int64_t b = begin; b < end; ++b)
      backward_row(workspace,
                   {image_data + b * volume, part(canvas_data, b * volume), window_data + 5 * b},
                   grad_data + b * glimpse_channels * size * size,
                   {part(grad_image_data, b * volume), grad_window_data + 5 * b,
                    part(grad_canvas_data, b * volume)});
  });
  return {grad_image, grad_window, grad_canvas};
}

std::optional<Tensor> for_arithmetic(const std::optional<Tensor>& tensor) {
  return tensor ? std::optional(cpu::for_arithmetic(*tensor)) : std::nullopt;
}

}  // namespace

Tensor read(Tensor image, Tensor window, int64_t size, std::optional<Tensor> canvas) {
  check_read("read", image, window, size, canvas);
  const auto run = is_double(image) ? run_forward<double> : run_forward<float>;
  return as_type(run(for_arithmetic(image), for_arithmetic(window), size, for_arithmetic(canvas)),
                 image.scalar_type());
}

std::tuple<Tensor, Tensor, Tensor> read_backward(Tensor grad, Tensor image, Tensor window,
                                                 int64_t size, std::optional<Tensor> canvas,
                                                 bool image_grad) {
  check_read_backward(grad, image, window, size, canvas);
  const auto run = is_double(image) ? run_backward<double> : run_backward<float>;
  const auto [grad_image, grad_window, grad_canvas] =
      run(for_arithmetic(grad), for_arithmetic(image), for_arithmetic(window), size,
          for_arithmetic(canvas), image_grad);
  return {as_type(grad_image, image.scalar_type()), as_type(grad_window, window.scalar_type()),
          as_type(grad_canvas, (canvas ? *canvas : image).scalar_type())};
}

}  // namespace aligndraw::cpu
