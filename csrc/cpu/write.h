// write, one image at a time: what the op and the unrolled loop share.
#pragma once
#include "glimpse.h"

namespace aligndraw::cpu {

// Of one image of the batch: patch [channels, size, size], canvas [channels, height, width].
template <class T>
struct WriteWorkspace {
  explicit WriteWorkspace(int64_t channels, int64_t height, int64_t width, int64_t size)
      : channels(channels), height(height), width(width), size(size) {}

  const int64_t channels, height, width, size;
  const int64_t area = height * width;
  Window<T> window{size, height, width};
  const Buffer<T> patch{channels * size * size};           // K / gamma
  const Buffer<T> drawn{channels * size * window.stride};  // K F_X / gamma
};

template <class T>
struct WriteBackwardWorkspace {
  explicit WriteBackwardWorkspace(int64_t channels, int64_t height, int64_t width, int64_t size)
      : channels(channels), height(height), width(width), size(size) {}

  const int64_t channels, height, width, size;
  const int64_t area = height * width;
  Window<T> window{size, height, width};
  const WindowGrads<T> grads{window, channels};
  const Buffer<T> rows{3 * channels * size *
                       window.stride};  // F_Y times the gradient of the canvas
};

void forward_row(WriteWorkspace<float>& workspace, const float* patch, const float* window,
                 const float* canvas, float* result);
void forward_row(WriteWorkspace<double>& workspace, const double* patch, const double* window,
                 const double* canvas, double* result);
void backward_row(WriteBackwardWorkspace<float>& workspace, const float* grad, const float* patch,
                  const float* window, float* grad_patch, float* grad_window);
void backward_row(WriteBackwardWorkspace<double>& workspace, const double* grad,
                  const double* patch, const double* window, double* grad_patch,
                  double* grad_window);

}  // namespace aligndraw::cpu
