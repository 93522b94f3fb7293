// read, one image at a time: what the op and the unrolled loop share.
#pragma once
#include "glimpse.h"

namespace aligndraw::cpu {

// One image of the batch, [channels, height, width]. Where there is no canvas it is null.
template <class T>
struct Image {
  const T *pixels, *canvas, *window;
};

template <class T>
struct ImageGrads {
  T *image, *window, *canvas;  // image and canvas are null where they are not wanted
};

template <class T>
struct Reader {
  explicit Reader(int64_t channels, int64_t height, int64_t width, int64_t size, bool with_canvas)
      : channels(channels), height(height), width(width), size(size), with_canvas(with_canvas) {}

  const int64_t channels, height, width, size;
  const bool with_canvas;
  const int64_t area = height * width, planes = with_canvas ? 2 * channels : channels;
  Window<T> window{size, height, width};
  const int64_t lanes = window.lanes;
  const Buffer<T> errors{with_canvas ? channels * area : 0};  // X - sigmoid(canvas), Eq. 10
  const Buffer<T> rows{planes * size * width};                // F_Y of each plane
  const Buffer<T> patch{planes * size * lanes};

  // The planes are the image's, then those of the error image.
  ALIGNDRAW_INLINE const T* plane(const Image<T>& image, int64_t c) const {
    return c < channels ? image.pixels + c * area : errors + (c - channels) * area;
  }

  ALIGNDRAW_INLINE void place(const Image<T>& image) {
    window.place(image.window);
    window.touch_all_unless_finite(image.pixels, channels * area);
    if (image.canvas) window.touch_all_unless_finite(image.canvas, channels * area);
  }

  // Calls f(n) for the pixels n in the rows that the window touches.
  template <class F>
  ALIGNDRAW_INLINE void for_touched(const F& f) const {
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t end = c * area + window.y.end * width;
#pragma omp simd
      for (int64_t n = c * area + window.y.first * width; n < end; ++n) f(n);
    }
  }

  ALIGNDRAW_INLINE void filter_rows(const Image<T>& image) const {
    for (int64_t c = 0; c < planes; ++c)
      window.filter_rows(plane(image, c), rows + c * size * width);
  }

  ALIGNDRAW_INLINE void forward(const Image<T>& image, T* result) {
    place(image);
    if (image.canvas) {
      T* const error = errors;
      for_touched([=](int64_t n) { error[n] = image.pixels[n] - math::sigmoid(image.canvas[n]); });
    }
    filter_rows(image);
    window.filter_columns(rows, patch, planes);
    window.narrow(patch, window.grid.gamma, result, planes);
  }
};

template <class T>
struct BackwardReader : Reader<T> {
  using Reader<T>::Reader, Reader<T>::channels, Reader<T>::area, Reader<T>::planes;
  using Reader<T>::width, Reader<T>::size, Reader<T>::lanes, Reader<T>::window;
  using Reader<T>::errors, Reader<T>::rows, Reader<T>::patch;
  const WindowGrads<T> window_grads{window};
  const Drawing<T> drawing{window};
  const Buffer<T> seen{this->with_canvas ? channels * area : 0};  // sigmoid(canvas)

  ALIGNDRAW_INLINE void backward(const Image<T>& image, const T* grad, const ImageGrads<T>& grads) {
    this->place(image);
    const int64_t patch_size = size * lanes;
    window.touch_all_unless_finite(grad, planes * size * size);
    window.widen(grad, window.grid.gamma, patch, planes);
    T *const error = errors, *const sigmoid = seen;
    if (image.canvas)
      this->for_touched([=](int64_t n) {
        sigmoid[n] = math::sigmoid(image.canvas[n]);
        error[n] = image.pixels[n] - sigmoid[n];
      });
    this->filter_rows(image);
    for (int64_t c = 0; c < planes; ++c)
      window_grads.add(c == 0, this->plane(image, c), rows + c * size * width,
                       patch + c * patch_size);
    window_grads.finish(1, image.window, grads.window);

    if (!grads.image && !grads.canvas) return;
    drawing.place();
    T* const error_patch = patch + channels * patch_size;
    if (grads.canvas) {
      for (int64_t c = 0; c < channels; ++c)
        drawing.draw(error_patch + c * patch_size, grads.canvas + c * area);
      this->for_touched([=](int64_t n) { grads.canvas[n] *= sigmoid[n] * (sigmoid[n] - 1); });
    }
    if (grads.image) {
      if (grads.canvas)
        for (int64_t n = 0; n < channels * patch_size; ++n) patch[n] += error_patch[n];
      for (int64_t c = 0; c < channels; ++c)
        drawing.draw(patch + c * patch_size, grads.image + c * area);
    }
  }
};

void forward_row(Reader<float>& reader, const Image<float>& image, float* result);
void forward_row(Reader<double>& reader, const Image<double>& image, double* result);
void backward_row(BackwardReader<float>& reader, const Image<float>& image, const float* grad,
                  const ImageGrads<float>& grads);
void backward_row(BackwardReader<double>& reader, const Image<double>& image, const double* grad,
                  const ImageGrads<double>& grads);

}  // namespace aligndraw::cpu
