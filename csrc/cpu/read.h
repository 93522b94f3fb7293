// read, one image at a time: what the op and the unrolled loop share.
#pragma once
#include "glimpse.h"

namespace aligndraw::cpu {

// One image of the batch, [channels, height, width]. Where there is no canvas it is null.
template <class T>
struct Image {
  const T *pixels, *canvas, *window;
};

// Image and canvas are null where they are not wanted; with `accumulate` they are added to what is
// there.
template <class T>
struct ImageGrads {
  T *image, *window, *canvas;
  bool accumulate = false;
};

template <class T>
struct ReadWorkspace {
  explicit ReadWorkspace(int64_t channels, int64_t height, int64_t width, int64_t size,
                         bool with_canvas)
      : ReadWorkspace(channels, height, width, size, with_canvas, 1, 0) {}

  const int64_t channels, height, width, size;
  const bool with_canvas;
  const int64_t area = height * width, glimpse_channels = with_canvas ? 2 * channels : channels;
  const int64_t seen_stride;  // from one channel to the next
  Window<T> window{size, height, width};
  const Buffer<T> seen;  // sigmoid(canvas), of one channel or of all
  const Buffer<T> rows;  // F_Y X of each channel

 protected:
  explicit ReadWorkspace(int64_t channels, int64_t height, int64_t width, int64_t size,
                         bool with_canvas, int kinds_of_rows, int64_t seen_stride)
      : channels(channels),
        height(height),
        width(width),
        size(size),
        with_canvas(with_canvas),
        seen_stride(seen_stride),
        seen(with_canvas ? area + (channels - 1) * seen_stride : 0),
        rows(kinds_of_rows * glimpse_channels * size * window.stride) {}
};

template <class T>
struct ReadBackwardWorkspace : ReadWorkspace<T> {
  explicit ReadBackwardWorkspace(int64_t channels, int64_t height, int64_t width, int64_t size,
                                 bool with_canvas)
      : ReadWorkspace<T>(channels, height, width, size, with_canvas, 3, height * width),
        grads(this->window, this->glimpse_channels) {}

  const WindowGrads<T> grads;
};

void forward_row(ReadWorkspace<float>& workspace, const Image<float>& image, float* result);
void forward_row(ReadWorkspace<double>& workspace, const Image<double>& image, double* result);
void backward_row(ReadBackwardWorkspace<float>& workspace, const Image<float>& image,
                  const float* grad, const ImageGrads<float>& grads);
void backward_row(ReadBackwardWorkspace<double>& workspace, const Image<double>& image,
                  const double* grad, const ImageGrads<double>& grads);

}  // namespace aligndraw::cpu
