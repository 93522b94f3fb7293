// write, one image at a time: what the op and the unrolled loop share.
#pragma once
#include "glimpse.h"

namespace aligndraw::cpu {

template <class T>
struct Writer {
  explicit Writer(int64_t channels, int64_t height, int64_t width, int64_t size)
      : channels(channels), height(height), width(width), size(size) {}

  const int64_t channels, height, width, size;
  const int64_t area = height * width;
  Window<T> window{size, height, width};
  const int64_t lanes = window.lanes;
  const Drawing<T> drawing{window};
  const Buffer<T> wide{channels * size * lanes};

  // One image of the batch: patch [channels, size, size], canvas [channels, height, width].
  ALIGNDRAW_INLINE void forward(const T* patch, const T* parameters, const T* canvas, T* result) {
    window.place(parameters);
    window.widen(patch, 1 / window.grid.gamma, wide, channels);
    window.touch_all_unless_finite(patch, channels * size * size);
    drawing.place();
    for (int64_t c = 0; c < channels; ++c)
      drawing.draw(wide + c * size * lanes, result + c * area, canvas + c * area);
  }
};

template <class T>
struct BackwardWriter {
  explicit BackwardWriter(int64_t channels, int64_t height, int64_t width, int64_t size)
      : channels(channels), height(height), width(width), size(size) {}

  const int64_t channels, height, width, size;
  const int64_t area = height * width;
  Window<T> window{size, height, width};
  const int64_t lanes = window.lanes;
  const WindowGrads<T> window_grads{window};
  const Buffer<T> rows{channels * size * width};  // F_Y times the gradient of the canvas
  const Buffer<T> wide{channels * size * lanes};

  // The gradient of the patch is a glimpse of that of the canvas.
  ALIGNDRAW_INLINE void backward(const T* grad, const T* patch, const T* parameters, T* grad_patch,
                                 T* grad_parameters) {
    window.place(parameters);
    window.touch_all_unless_finite(patch, channels * size * size);
    window.touch_all_unless_finite(grad, channels * area);
    const T scale = 1 / window.grid.gamma;
    for (int64_t c = 0; c < channels; ++c)
      window.filter_rows(grad + c * area, rows + c * size * width);
    window.filter_columns(rows, wide, channels);
    window.narrow(wide, scale, grad_patch, channels);
    window.widen(patch, scale, wide, channels);
    for (int64_t c = 0; c < channels; ++c)
      window_grads.add(c == 0, grad + c * area, rows + c * size * width, wide + c * size * lanes);
    window_grads.finish(-1, parameters, grad_parameters);
  }
};

void forward_row(Writer<float>& writer, const float* patch, const float* window,
                 const float* canvas, float* result);
void forward_row(Writer<double>& writer, const double* patch, const double* window,
                 const double* canvas, double* result);
void backward_row(BackwardWriter<float>& writer, const float* grad, const float* patch,
                  const float* window, float* grad_patch, float* grad_window);
void backward_row(BackwardWriter<double>& writer, const double* grad, const double* patch,
                  const double* window, double* grad_patch, double* grad_window);

}  // namespace aligndraw::cpu
