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

// The part of the depth of F_Y X that a strip of rows needs: where one of its filters is not
// negligible. A filter has `kinds` rows.
template <int kinds, class T>
struct PixelsOfFilters {
  const Filters<T>& f;

  ALIGNDRAW_KERNEL_INLINE std::pair<int64_t, int64_t> operator()(int64_t row, int64_t rows) const {
    return {f.firsts[row / kinds] - f.first, f.ends[(row + rows - 1) / kinds] - f.first};
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
  int64_t matrix = 0;  // from one matrix's result to the next

  template <class Access>
  ALIGNDRAW_KERNEL_INLINE void put(int m, int64_t row, int64_t column, const Simd<T>& sums,
                                   const Access&) const {
    store(result + m * matrix + row * stride + column, sums);
  }
};

// An image and its error image, X - sigmoid(canvas), Eq. 10.
template <class T>
struct ImageAndErrors {
  static constexpr int matrices = 2;
  const T *pixels, *sigmoid;
  int64_t row_stride;

  template <int vectors, class Access>
  ALIGNDRAW_KERNEL_INLINE void load(Simd<T> (&values)[matrices][vectors], int v, int64_t at,
                                    const Access& access) const {
    access.load(values[0][v], pixels + at);
    access.load(values[1][v], sigmoid + at);
    values[1][v] = values[0][v] - values[1][v];
  }
  ALIGNDRAW_KERNEL_INLINE ImageAndErrors from(int64_t row) const {
    return {pixels + row * row_stride, sigmoid + row * row_stride, row_stride};
  }
};

// The rows of a strip. Few rows leave out the most pixels; those of a wide box have sums enough to
// hide the time that an addition takes.
template <int matrices, class T>
ALIGNDRAW_KERNEL_INLINE int64_t strip_rows(const Window<T>& w) {
  constexpr int most = most_tile_rows<matrices>, narrow = 2, few = most / 2;
  const bool is_wide = w.x.end - w.x.first > narrow * lanes<T>;
  return is_wide && tile_vectors<matrices, few> > narrow ? few : most;
}

// rows [size, kinds, stride] = F_Y X in the columns of the box, for `kinds` kinds of F_Y and each
// of the matrices X, whose results are `matrix` apart.
template <int kinds, class T, class B>
ALIGNDRAW_KERNEL_INLINE void filter_rows(const Window<T>& w, const T* filters, const B& pixels,
                                         T* rows, int64_t matrix = 0) {
  const auto &y = w.y, &x = w.x;
  multiply<T>({filters + y.first, y.stride, 1}, pixels, kinds * w.size, x.end - x.first,
              PaddedSums<T>{rows + x.first, w.stride, matrix}, PixelsOfFilters<kinds, T>{y},
              std::min<int64_t>(6, strip_rows<B::matrices>(w)));
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

// patch [channels, size, size] = scale (F_Y X) F_X^T; the rows are `row_stride` apart
template <class T>
ALIGNDRAW_KERNEL void filter_columns(const Window<T>& w, const T* rows, int64_t row_stride, T scale,
                                     T* patch, int64_t channels) {
  const int64_t count = channels * w.size, width = whole_vectors<T>(w.x.end - w.x.first);
  const T* const from = rows + w.x.first;
  make_panels(w, w.x.taps, w.columns.data());
  for (int64_t p = 0; p < w.panels; ++p) {
    const int64_t first = p * panel_rows, columns = std::min<int64_t>(panel_rows, w.size - first);
    multiply_panel(PanelProduct<T>{&from, row_stride, count,
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
  const Dots<T> d{from, row_stride, count, taps, w.stride, width, scale, last, w.size};
  if (w.alone == 1)
    dots<1>(d);
  else
    dots<2>(d);
}

// drawn [channels, size, stride] = K F_X in the columns of the box
template <class T>
ALIGNDRAW_KERNEL void draw_columns(const Window<T>& w, const T* patch, T* drawn, int64_t channels) {
  multiply<T>({patch, w.size, 1}, OneMatrix<T>{{w.x.taps + w.x.first, w.stride}}, channels * w.size,
              whole_vectors<T>(w.x.end - w.x.first), PaddedSums<T>{drawn + w.x.first, w.stride},
              WholeDepth{w.size}, most_tile_rows<1>);
}

// F_Y^T (K F_X) in the box, put where `put` says
template <class T, class Put>
ALIGNDRAW_KERNEL_INLINE void draw_rows(const Window<T>& w, const T* drawn, const Put& put) {
  multiply<T>({w.y.taps + w.y.first, 1, w.y.stride}, OneMatrix<T>{{drawn + w.x.first, w.stride}},
              w.y.end - w.y.first, w.x.end - w.x.first, put, FiltersOfPixels<T>{w.y},
              strip_rows<1>(w));
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

// The first three sums of the y axis' filters: those over the pixels are in the rows [size, 3,
// stride] of each channel, and (K F_X) sums them over the columns. So the gradient of the taps,
// (K F_X) X^T, is never formed.
template <class T>
ALIGNDRAW_KERNEL void sums_of_rows(const Window<T>& w, const T* rows, const T* drawn,
                                   int64_t channels) {
  const PixelRange columns = in_whole_vectors<T>(w.x.first, w.x.end);
  const int64_t all = w.size * w.stride;
  for (int64_t i = 0; i < w.size; ++i) {
    Simd<T> sums[3] = {}, of_drawn, of_rows;
    for (int64_t c = 0; c < channels; ++c) {
      const T* const of_channel = rows + 3 * (c * all + i * w.stride);
      for (int64_t b = columns.begin; b < columns.end; b += lanes<T>) {
        load(of_drawn, drawn + c * all + i * w.stride + b);
#pragma GCC unroll 3
        for (int kind = 0; kind < 3; ++kind) {
          load(of_rows, of_channel + kind * w.stride + b);
          sums[kind] += of_drawn * of_rows;
        }
      }
    }
    put_sums<T>(w.y, i, 0, {sums[0], sums[1], sums[2]});
  }
}

// The gradient of the window from that of (1/gamma or gamma) F_Y X F_X^T, which is in grads.patch.
// The rows are the products of the weighed taps with each plane; `power` is that of gamma.
template <class T>
ALIGNDRAW_KERNEL void window_backward(const Window<T>& w, const WindowGrads<T>& grads,
                                      const T* rows, int64_t channels, int power,
                                      const T* parameters, T* grad_parameters) {
  const auto &y = w.y, &x = w.x;
  const PixelRange columns = in_whole_vectors<T>(x.first, x.end);
  draw_columns(w, grads.patch.data(), grads.drawn.data(), channels);
  multiply<T>({grads.patch, 1, w.size}, OneMatrix<T>{{rows + columns.begin, 3 * w.stride}}, w.size,
              columns.end - columns.begin, PaddedSums<T>{grads.x + columns.begin, w.stride},
              WholeDepth{channels * w.size}, most_tile_rows<1>);
  sums_of_gradient(x, grads.x.data(), columns);
  sums_of_rows(w, rows, grads.drawn.data(), channels);
  const auto x_grads = axis_grads(x, w.grid.sharpness);
  const auto y_grads = axis_grads(y, w.grid.sharpness);
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

// The sigmoid of the canvas. Whether all pixels and the canvas are finite: an infinite canvas may
// pass, whose sigmoid is 0 or 1, and pixels whose sum overflows may not. It adds, since processors
// add beside the multiplications that a sigmoid consists of.
template <class T>
ALIGNDRAW_KERNEL bool find_sigmoid(const T* pixels, const T* canvas, T* sigmoid, int64_t count) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t n = 0; n < count; ++n) {
    const T seen = math::sigmoid(canvas[n]);
    sum += pixels[n] - seen;
    sigmoid[n] = seen;
  }
  return sum * 0 == 0;
}

// Image and canvas in the rows that the window does not touch.
template <class T>
ALIGNDRAW_KERNEL bool is_finite_outside(const Window<T>& w, const T* numbers, int64_t channels) {
  const int64_t area = w.height * w.width, before = w.y.first * w.width, behind = w.y.end * w.width;
  bool is_finite = true;
  for (const T* plane = numbers; plane < numbers + channels * area; plane += area)
    is_finite &= all_finite(plane, before) && all_finite(plane + behind, area - behind);
  return is_finite;
}

// rows [2 channels, size, kinds, stride] = F_Y X of the image's channels, and of those of the error
// image where there is a canvas. Whether all pixels and the canvas are finite.
template <int kinds, class T>
ALIGNDRAW_KERNEL bool filter_planes(const ReadWorkspace<T>& r, const Image<T>& image,
                                    const T* filters) {
  const Window<T>& w = r.window;
  const int64_t all = kinds * r.size * w.stride, first = w.y.first * r.width;
  bool is_finite = true;
  for (int64_t c = 0; c < r.channels; ++c) {
    const T* const pixels = image.pixels + c * r.area;
    T* const rows = r.rows + c * all;
    if (!image.canvas) {
      filter_rows<kinds>(w, filters, OneMatrix<T>{{pixels + box(w), w.width}}, rows);
      continue;
    }
    T* const seen = r.seen + c * r.seen_stride;
    is_finite &= find_sigmoid(pixels + first, image.canvas + c * r.area + first, seen + first,
                              (w.y.end - w.y.first) * r.width);
    filter_rows<kinds>(w, filters, ImageAndErrors<T>{pixels + box(w), seen + box(w), w.width}, rows,
                       r.channels * all);
  }
  if (!image.canvas) return touches_all(w) || all_finite(image.pixels, r.channels * r.area);
  return is_finite && is_finite_outside(w, image.pixels, r.channels) &&
         is_finite_outside(w, image.canvas, r.channels);
}

template <class T>
ALIGNDRAW_KERNEL void read(ReadWorkspace<T>& r, const Image<T>& image, T* result) {
  place(r.window, image.window);
  const auto filter = [&]() ALIGNDRAW_KERNEL_LAMBDA {
    return filter_planes<1>(r, image, r.window.y.taps);
  };
  if (!filter() && !touches_all(r.window)) touch_all(r.window), filter();
  filter_columns(r.window, r.rows.data(), r.window.stride, r.window.grid.gamma, result,
                 r.glimpse_channels);
}

// sums times minus the slope of the sigmoid, added or put.
template <class T>
struct SigmoidBackward {
  T* result;
  const T* sigmoid;
  int64_t stride;
  bool accumulate;

  template <class Access>
  ALIGNDRAW_KERNEL_INLINE void put(int, int64_t row, int64_t column, Simd<T> sums,
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
  const auto filter = [&]() ALIGNDRAW_KERNEL_LAMBDA {
    weigh_taps(w.y, in_whole_vectors<T>(w.y.first, w.y.end), r.grads.weights.data());
    return filter_planes<3>(r, image, r.grads.weights.data());
  };
  if (!filter() && !touches_all(w)) touch_all(w), filter();
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
  weigh_taps(window.y, in_whole_vectors<T>(window.y.first, window.y.end), w.grads.weights.data());
  for (int64_t c = 0; c < w.channels; ++c)
    filter_rows<3>(window, w.grads.weights.data(),
                   OneMatrix<T>{{grad + c * w.area + box(window), w.width}},
                   w.rows + c * 3 * w.size * window.stride);
  filter_columns(window, w.rows.data(), 3 * window.stride, scale, grad_patch, w.channels);
  window_backward(window, w.grads, w.rows.data(), w.channels, -1, parameters, grad_parameters);
}

template <class T>
constexpr GlimpseKernels<T> glimpse_kernels_here{multiply_plain<T>, read<T>, read_backward<T>,
                                                 write<T>, write_backward<T>};

}  // namespace
}  // namespace aligndraw::cpu
