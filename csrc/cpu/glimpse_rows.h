// The kernels of glimpse_kernels.h for any ISA. To be included after <isa>_simd.h.
#pragma once
#include "filter_rows.h"
#include "glimpse_kernels.h"

namespace aligndraw::cpu {
namespace {

// Whether 0 times each number is 0. Of as many sums as hide the time that an addition takes.
template <class T>
ALIGNDRAW_KERNEL bool all_finite(const T* numbers, int64_t count) {
  constexpr int sum_count = 4;
  Simd<T> sums[sum_count] = {}, value;
  int64_t n = 0;
  for (; n + sum_count * lanes<T> <= count; n += sum_count * lanes<T>)
#pragma GCC unroll 4
    for (int i = 0; i < sum_count; ++i) {
      load(value, numbers + n + i * lanes<T>);
      sums[i] += value * 0;
    }
  T zero = 0;
  for (; n < count; ++n) zero += numbers[n] * 0;
  sums[0] += sums[1] + (sums[2] + sums[3]);
  for (int i = 0; i < lanes<T>; ++i) zero += sums[0][i];
  return zero == 0;
}

// ---- windows ----

template <class T>
ALIGNDRAW_KERNEL_INLINE void touch_all(Window<T>& w) {
  touch_all(w.x);
  touch_all(w.y);
}

template <class T>
ALIGNDRAW_KERNEL_INLINE void place(Window<T>& w, const T* parameters) {
  w.grid = math::grid(parameters, w.height, w.width);
  place(w.x, w.grid.x, w.grid.spacing, w.grid.sharpness);
  place(w.y, w.grid.y, w.grid.spacing, w.grid.sharpness);
  if (std::isnan(w.grid.x + w.grid.y + w.grid.gamma)) return touch_all(w);
  if (w.x.first == w.x.end) return;
  w.x.first = w.x.first / row_multiple * row_multiple;
  w.x.end = std::min(padded(w.x.end), w.width);
}

template <class T>
ALIGNDRAW_KERNEL_INLINE bool touches_all(const Window<T>& w) {
  return w.x.touches_all() && w.y.touches_all();
}

template <class T>
ALIGNDRAW_KERNEL_INLINE void touch_all_unless_finite(Window<T>& w, const T* numbers,
                                                     int64_t count) {
  if (!touches_all(w) && !all_finite(numbers, count)) touch_all(w);
}

template <class T>
ALIGNDRAW_KERNEL_INLINE int64_t box(const Window<T>& w) {  // its first pixel
  return w.y.first * w.width + w.x.first;
}

// The part of the depth of F_Y X that a strip of filters needs: where one of them is not 0.
template <class T>
struct PixelsOfFilters {
  const Filters<T>& f;

  ALIGNDRAW_KERNEL_INLINE std::pair<int64_t, int64_t> operator()(int64_t i, int64_t count) const {
    return {f.firsts[i] - f.first, f.ends[i + count - 1] - f.first};
  }
  // The work of strips of so many filters.
  ALIGNDRAW_KERNEL_INLINE int64_t work(int64_t most) const {
    int64_t sum = 0;
    for (int64_t i = 0; i < f.size; i += most) {
      const int64_t count = std::min(most, f.size - i);
      sum += count * (f.ends[i + count - 1] - f.firsts[i]);
    }
    return sum;
  }
};

// The part of the depth of F_Y^T K that a strip of pixels needs: the filters that touch one of
// them.
template <class T>
struct FiltersOfPixels {
  const Filters<T>& f;

  ALIGNDRAW_KERNEL_INLINE std::pair<int64_t, int64_t> operator()(int64_t a, int64_t count) const {
    int64_t begin = 0, end = f.size;
    while (begin < end && f.ends[begin] <= f.first + a) ++begin;
    while (end > begin && f.firsts[end - 1] >= f.first + a + count) --end;
    return {begin, end};
  }
};

// Sums of whole vectors, for rows with room behind them.
template <class T>
struct PaddedSums {
  T* result;
  int64_t stride;

  template <class Access>
  ALIGNDRAW_KERNEL_INLINE void put(int64_t row, int64_t column, const Simd<T>& sums,
                                   const Access&) const {
    store(result + row * stride + column, sums);
  }
};

// How many filters share a strip of F_Y X.
template <class T>
ALIGNDRAW_KERNEL int64_t filters_of_strip(const Filters<T>& y) {
  constexpr int64_t few = 4;  // a strip of all filters is quicker unless that leaves out a fifth
  const PixelsOfFilters<T> pixels_of{y};
  return 5 * pixels_of.work(few) < 4 * pixels_of.work(most_tile_rows) ? few : most_tile_rows;
}

// rows [size, stride] = F_Y X in the columns of the box
template <class T>
ALIGNDRAW_KERNEL_INLINE void filter_rows(const Window<T>& w, int64_t most_rows, const T* pixels,
                                         T* rows) {
  const auto &y = w.y, &x = w.x;
  multiply<T>({y.taps + y.first, y.stride, 1}, {pixels + box(w), w.width}, w.size, x.end - x.first,
              PaddedSums<T>{rows + x.first, w.stride}, PixelsOfFilters<T>{y}, most_rows);
}

// The rows of a matrix [size, stride] that make panels, in the columns of the box.
template <class T>
ALIGNDRAW_KERNEL void make_panels(const Window<T>& w, const T* rows, T* panels) {
  static_assert(row_multiple == 2 * panel_rows);
  for (int64_t p = 0; p < w.panels; ++p) {
    const int64_t count = std::min<int64_t>(panel_rows, w.size - p * panel_rows);
    const T* from = rows + p * panel_rows * w.stride;
    T fewer[panel_rows * row_multiple] = {};
    for (int64_t b = w.x.first; b < w.x.end; b += row_multiple) {
      T* const to = panels + p * w.panel + b * panel_rows;
      if (count == panel_rows) {
        transpose_pairs(from + b, w.stride, to, row_multiple);
      } else {
        for (int64_t i = 0; i < count; ++i)
          std::copy_n(from + i * w.stride + b, row_multiple, fewer + i * row_multiple);
        transpose_pairs(fewer, row_multiple, to, row_multiple);
      }
    }
  }
}

// patch [channels, size, size] = scale (F_Y X) F_X^T
template <class T>
ALIGNDRAW_KERNEL void filter_columns(const Window<T>& w, const T* rows, T scale, T* patch,
                                     int64_t channels) {
  const int64_t count = channels * w.size, width = whole_vectors<T>(w.x.end - w.x.first);
  const T* const from = rows + w.x.first;
  make_panels(w, w.x.taps.data(), w.columns.data());
  for (int64_t p = 0; p < w.panels; ++p) {
    const int64_t first = p * panel_rows, columns = std::min<int64_t>(panel_rows, w.size - first);
    multiply_panel(PanelProduct<T>{&from, w.stride, count,
                                   w.columns + p * w.panel + w.x.first * panel_rows, 0, 1, width},
                   [&](int64_t row, int64_t some, const T* found) ALIGNDRAW_KERNEL_LAMBDA {
                     for (int64_t i = 0; i < some; ++i) {
                       T* const to = patch + (row + i) * w.size + first;
                       if (columns == panel_rows)
                         for (int j = 0; j < panel_rows; ++j)
                           to[j] = scale * found[i * panel_rows + j];
                       else
                         for (int64_t j = 0; j < columns; ++j)
                           to[j] = scale * found[i * panel_rows + j];
                     }
                   });
  }
  if (!w.alone) return;
  const T* const taps = w.x.taps + (w.size - w.alone) * w.stride + w.x.first;
  T* const last = patch + w.size - w.alone;
  dots(Dots<T>{from, w.stride, 0, count, &taps, w.stride, w.alone, 1, width, last, w.size});
  for (int64_t i = 0; i < count; ++i)
    for (int64_t j = 0; j < w.alone; ++j) last[i * w.size + j] *= scale;
}

// drawn [channels, size, stride] = K F_X in the columns of the box
template <class T>
ALIGNDRAW_KERNEL void draw_columns(const Window<T>& w, const T* patch, T* drawn, int64_t channels) {
  multiply<T>({patch, w.size, 1}, {w.x.taps + w.x.first, w.stride}, channels * w.size,
              whole_vectors<T>(w.x.end - w.x.first), PaddedSums<T>{drawn + w.x.first, w.stride},
              WholeDepth{w.size}, most_tile_rows);
}

// F_Y^T (K F_X) in the box, put where `put` says
template <class T, class Put>
ALIGNDRAW_KERNEL_INLINE void draw_rows(const Window<T>& w, const T* drawn, const Put& put) {
  multiply<T>({w.y.taps + w.y.first, 1, w.y.stride}, {drawn + w.x.first, w.stride},
              w.y.end - w.y.first, w.x.end - w.x.first, put, FiltersOfPixels<T>{w.y},
              most_tile_rows);
}

// The pixels outside the box: those of `start`, or 0. Inside it they may be overwritten, too.
template <class T>
ALIGNDRAW_KERNEL_INLINE void put_outside(const Window<T>& w, T* pixels, const T* start) {
  const bool whole_rows = w.x.first == 0 && w.x.end == w.width;
  const int64_t first = whole_rows ? w.y.first * w.width : w.height * w.width;
  const int64_t end = whole_rows ? w.y.end * w.width : first, area = w.height * w.width;
  if (start) {
    std::copy_n(start, first, pixels);
    std::copy_n(start + end, area - end, pixels + end);
  } else {
    std::fill_n(pixels, first, T(0));
    std::fill_n(pixels + end, area - end, T(0));
  }
}

// grads.y = the gradient of the y axis' filters, sum over channels of (K F_X) X^T
template <class T>
ALIGNDRAW_KERNEL void y_backward(const Window<T>& w, const WindowGrads<T>& grads,
                                 int64_t channels) {
  const auto &y = w.y, &x = w.x;
  const int64_t pixels = y.end - y.first, width = x.end - x.first, drawn = w.size * w.stride;
  std::fill_n(grads.y.data(), w.size * grads.y_stride, T(0));
  for (int64_t c = 0; c < channels; ++c)
    make_panels(w, grads.drawn + c * drawn, grads.panels + c * w.panels * w.panel);
  for (int64_t p = 0; p < w.panels; ++p) {
    T* const pairs = grads.pairs;
    multiply_panel_by_pairs(PanelProduct<T>{grads.sources, w.width, pixels,
                                            grads.panels + p * w.panel + x.first * panel_rows,
                                            w.panels * w.panel, channels, width},
                            pairs);
    const int64_t found = (pixels + 1) / 2 * row_multiple;
    std::fill_n(pairs + found, padded(pixels) * panel_rows - found, T(0));
    for (int64_t a = 0; a < pixels; a += row_multiple)
      transpose_pairs(pairs + a * panel_rows, row_multiple,
                      grads.y + p * panel_rows * grads.y_stride + y.first + a, grads.y_stride);
  }
  const int64_t before = w.size - w.alone;
  if (w.alone)
    dots(Dots<T>{grads.drawn + before * w.stride + x.first, w.stride, drawn, w.alone, grads.sources,
                 w.width, pixels, channels, width, grads.y + before * grads.y_stride + y.first,
                 grads.y_stride});
}

// The gradient of the window from that of (1/gamma or gamma) F_Y X F_X^T, which is in grads.patch.
// The rows are F_Y X, grads.sources the X; `power` is that of gamma.
template <class T>
ALIGNDRAW_KERNEL void window_backward(const Window<T>& w, const WindowGrads<T>& grads,
                                      const T* rows, int64_t channels, int power,
                                      const T* parameters, T* grad_parameters) {
  const auto &y = w.y, &x = w.x;
  draw_columns(w, grads.patch.data(), grads.drawn.data(), channels);
  multiply<T>({grads.patch, 1, w.size}, {rows + x.first, w.stride}, w.size,
              whole_vectors<T>(x.end - x.first), PaddedSums<T>{grads.x + x.first, w.stride},
              WholeDepth{channels * w.size}, most_tile_rows);
  y_backward(w, grads, channels);
  const auto x_grads = backward(x, grads.x.data(), w.stride, w.grid.sharpness);
  const auto y_grads = backward(y, grads.y.data(), grads.y_stride, w.grid.sharpness);
  math::window_backward(x_grads, y_grads, power * x_grads.grad_sum, parameters, w.grid, w.height,
                        w.width, grad_parameters);
}

// to = scale from; whether all of it is finite.
template <class T>
ALIGNDRAW_KERNEL bool scale_all(const T* from, T scale, T* to, int64_t count) {
  T zero = 0;
#pragma omp simd reduction(+ : zero)
  for (int64_t n = 0; n < count; ++n) {
    to[n] = scale * from[n];
    zero += from[n] * 0;
  }
  return zero == 0;
}

// ---- read ----

// error = pixels - sigmoid(canvas), Eq. 10; the sigmoid is null where it is not wanted. Whether all
// pixels and the canvas are finite: an infinite canvas may pass, whose sigmoid is 0 or 1.
template <class T>
ALIGNDRAW_KERNEL bool find_errors(const T* pixels, const T* canvas, T* error, T* sigmoid,
                                  int64_t count) {
  T zero = 0;
#pragma omp simd reduction(+ : zero)
  for (int64_t n = 0; n < count; ++n) {
    const T seen = math::sigmoid(canvas[n]);
    error[n] = pixels[n] - seen;
    zero += error[n] * 0;
    if (sigmoid) sigmoid[n] = seen;
  }
  return zero == 0;
}

// In the rows that the window touches.
template <class T>
ALIGNDRAW_KERNEL bool put_errors(const ReadWorkspace<T>& r, const Image<T>& image, T* sigmoid) {
  const int64_t first = r.window.y.first * r.width;
  const int64_t count = (r.window.y.end - r.window.y.first) * r.width;
  bool is_finite = true;
  for (int64_t at = first; at < r.channels * r.area; at += r.area)
    is_finite &= find_errors(image.pixels + at, image.canvas + at, r.errors + at,
                             sigmoid ? sigmoid + at : nullptr, count);
  return is_finite;
}

// Image and canvas in the rows that the window does not touch.
template <class T>
ALIGNDRAW_KERNEL bool is_finite_outside(const ReadWorkspace<T>& r, const Image<T>& image) {
  const int64_t before = r.window.y.first * r.width, behind = r.window.y.end * r.width;
  bool is_finite = true;
  for (int64_t at = 0; at < r.channels * r.area; at += r.area)
    for (const T* const plane : {image.pixels + at, image.canvas + at})
      is_finite &= all_finite(plane, before) && all_finite(plane + behind, r.area - behind);
  return is_finite;
}

// The errors of an image, or all pixels are touched where one is not finite.
template <class T>
ALIGNDRAW_KERNEL_INLINE void find_errors(ReadWorkspace<T>& r, const Image<T>& image, T* sigmoid) {
  if (!image.canvas) return touch_all_unless_finite(r.window, image.pixels, r.channels * r.area);
  if (put_errors(r, image, sigmoid) && is_finite_outside(r, image)) return;
  if (touches_all(r.window)) return;
  touch_all(r.window);
  put_errors(r, image, sigmoid);
}

template <class T>
ALIGNDRAW_KERNEL_INLINE void filter_rows(const ReadWorkspace<T>& r, const Image<T>& image) {
  const int64_t most_rows = filters_of_strip(r.window.y);
  for (int64_t c = 0; c < r.glimpse_channels; ++c)
    filter_rows(r.window, most_rows, r.plane(image, c), r.rows + c * r.size * r.window.stride);
}

template <class T>
ALIGNDRAW_KERNEL void read(ReadWorkspace<T>& r, const Image<T>& image, T* result) {
  place(r.window, image.window);
  find_errors(r, image, static_cast<T*>(nullptr));
  filter_rows(r, image);
  filter_columns(r.window, r.rows.data(), r.window.grid.gamma, result, r.glimpse_channels);
}

// sums times minus the slope of the sigmoid, added or put.
template <class T>
struct SigmoidBackward {
  T* result;
  const T* sigmoid;
  int64_t stride;
  bool accumulate;

  template <class Access>
  ALIGNDRAW_KERNEL_INLINE void put(int64_t row, int64_t column, Simd<T> sums,
                                   const Access& access) const {
    const int64_t at = row * stride + column;
    Simd<T> s;
    access.load(s, sigmoid + at);
    sums *= s * (s - 1);
    if (accumulate) {
      access.load(s, result + at);
      sums += s;
    }
    access.store(result + at, sums);
  }
};

template <class T>
ALIGNDRAW_KERNEL void read_backward(ReadBackwardWorkspace<T>& r, const Image<T>& image,
                                    const T* grad, const ImageGrads<T>& grads) {
  Window<T>& w = r.window;
  const int64_t patch = r.size * r.size, drawn = r.size * w.stride;
  place(w, image.window);
  if (!scale_all(grad, w.grid.gamma, r.grads.patch.data(), r.glimpse_channels * patch))
    touch_all(w);
  find_errors(r, image, r.seen.data());
  filter_rows(r, image);
  for (int64_t c = 0; c < r.glimpse_channels; ++c) r.grads.sources[c] = r.plane(image, c) + box(w);
  window_backward(w, r.grads, r.rows.data(), r.glimpse_channels, 1, image.window, grads.window);

  for (int64_t c = 0; c < r.channels; ++c) {
    const int64_t at = c * r.area;
    T* const of_image = r.grads.drawn + c * drawn;
    const T* const of_error = r.grads.drawn + (r.channels + c) * drawn;
    if (grads.canvas) {
      if (!grads.accumulate) put_outside<T>(w, grads.canvas + at, nullptr);
      draw_rows(w, of_error,
                SigmoidBackward<T>{grads.canvas + at + box(w), r.seen + at + box(w), r.width,
                                   grads.accumulate});
    }
    if (grads.image) {
      if (image.canvas)
        for (int64_t n = 0; n < drawn; ++n) of_image[n] += of_error[n];
      T* const to = grads.image + at;
      if (!grads.accumulate) put_outside<T>(w, to, nullptr);
      draw_rows(w, of_image,
                PlainSums<T>{to + box(w), r.width, grads.accumulate ? to + box(w) : nullptr});
    }
  }
}

// ---- write ----

template <class T>
ALIGNDRAW_KERNEL void write(WriteWorkspace<T>& w, const T* patch, const T* parameters,
                            const T* canvas, T* result) {
  Window<T>& window = w.window;
  const int64_t count = w.channels * w.size * w.size;
  place(window, parameters);
  if (!scale_all(patch, 1 / window.grid.gamma, w.patch.data(), count)) touch_all(window);
  draw_columns(window, w.patch.data(), w.drawn.data(), w.channels);
  for (int64_t c = 0; c < w.channels; ++c) {
    const int64_t at = c * w.area, first = at + box(window);
    put_outside(window, result + at, canvas + at);
    draw_rows(window, w.drawn + c * w.size * window.stride,
              PlainSums<T>{result + first, w.width, canvas + first});
  }
}

// The gradient of the patch is a glimpse of that of the canvas.
template <class T>
ALIGNDRAW_KERNEL void write_backward(WriteBackwardWorkspace<T>& w, const T* grad, const T* patch,
                                     const T* parameters, T* grad_patch, T* grad_parameters) {
  Window<T>& window = w.window;
  const int64_t count = w.channels * w.size * w.size;
  place(window, parameters);
  const T scale = 1 / window.grid.gamma;
  if (!scale_all(patch, scale, w.grads.patch.data(), count)) touch_all(window);
  touch_all_unless_finite(window, grad, w.channels * w.area);
  const int64_t most_rows = filters_of_strip(window.y);
  for (int64_t c = 0; c < w.channels; ++c) {
    filter_rows(window, most_rows, grad + c * w.area, w.rows + c * w.size * window.stride);
    w.grads.sources[c] = grad + c * w.area + box(window);
  }
  filter_columns(window, w.rows.data(), scale, grad_patch, w.channels);
  window_backward(window, w.grads, w.rows.data(), w.channels, -1, parameters, grad_parameters);
}

template <class T>
constexpr GlimpseKernels<T> glimpse_kernels_here{multiply_plain<T>, read<T>, read_backward<T>,
                                                 write<T>, write_backward<T>};

}  // namespace
}  // namespace aligndraw::cpu
