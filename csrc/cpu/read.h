// read, one image at a time: what the op and the unrolled loop share.
#pragma once
#include "glimpse.h"

namespace aligndraw::cpu {

// One image of the batch, [channels, height, width]. Where there is no canvas it is null.
template <class T>
struct Image {
  const T *pixels, *canvas, *window;
};

// Image and canvas are null where they are not wanted; with `adds` they are added to what is there.
template <class T>
struct ImageGrads {
  T *image, *window, *canvas;
  bool adds = false;
};

// Of `count` pixels: error = pixels - sigmoid(canvas), Eq. 10. The sigmoid is null where it is not
// wanted.
void error_pixels(const float* pixels, const float* canvas, float* error, float* sigmoid,
                  int64_t count);
void error_pixels(const double* pixels, const double* canvas, double* error, double* sigmoid,
                  int64_t count);

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

  // The rows of a channel that the window touches: their first pixel, and how many they have.
  ALIGNDRAW_INLINE int64_t touched(int64_t c) const { return c * area + window.y.first * width; }
  ALIGNDRAW_INLINE int64_t touched_count() const { return (window.y.end - window.y.first) * width; }

  ALIGNDRAW_INLINE void find_errors(const Image<T>& image, T* sigmoid) const {
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t at = touched(c);
      error_pixels(image.pixels + at, image.canvas + at, errors + at,
                   sigmoid ? sigmoid + at : nullptr, touched_count());
    }
  }

  ALIGNDRAW_INLINE void filter_rows(const Image<T>& image) const {
    for (int64_t c = 0; c < planes; ++c)
      window.filter_rows(plane(image, c), rows + c * size * width);
  }

  ALIGNDRAW_INLINE void forward(const Image<T>& image, T* result) {
    place(image);
    if (image.canvas) find_errors(image, nullptr);
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
  const Buffer<T> drawn{area};

  ALIGNDRAW_INLINE void backward(const Image<T>& image, const T* grad, const ImageGrads<T>& grads) {
    this->place(image);
    const int64_t patch_size = size * lanes;
    window.touch_all_unless_finite(grad, planes * size * size);
    window.widen(grad, window.grid.gamma, patch, planes);
    if (image.canvas) this->find_errors(image, seen);
    this->filter_rows(image);
    for (int64_t c = 0; c < planes; ++c)
      window_grads.add(c == 0, this->plane(image, c), rows + c * size * width,
                       patch + c * patch_size);
    window_grads.finish(1, image.window, grads.window);

    if (!grads.image && !grads.canvas) return;
    drawing.place();
    T* const error_patch = patch + channels * patch_size;
    if (grads.canvas) draw(error_patch, grads.canvas, grads.adds, seen.data());
    if (grads.image) {
      if (grads.canvas)
        for (int64_t n = 0; n < channels * patch_size; ++n) patch[n] += error_patch[n];
      draw(patch, grads.image, grads.adds, nullptr);
    }
  }

 private:
  // The patches drawn, or added; where there is a sigmoid, times minus its slope.
  ALIGNDRAW_INLINE void draw(const T* patches, T* result, bool adds, const T* sigmoid) const {
    for (int64_t c = 0; c < channels; ++c) {
      T* const into = adds ? drawn.data() : result + c * area;
      drawing.draw(patches + c * size * lanes, into);
      const int64_t first = this->touched(0), count = this->touched_count();
      T* const at = into + first;
      if (sigmoid) {
        const T* const s = sigmoid + this->touched(c);
#pragma omp simd
        for (int64_t n = 0; n < count; ++n) at[n] *= s[n] * (s[n] - 1);
      }
      if (adds) {
        T* const to = result + this->touched(c);
#pragma omp simd
        for (int64_t n = 0; n < count; ++n) to[n] += at[n];
      }
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
