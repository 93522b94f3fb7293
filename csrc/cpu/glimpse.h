// What read and write share: the filterbanks of one image's window, and the products with them.
#pragma once
#include "../math/filterbank.h"
#include "cpu.h"
#include "product.h"
#include "vector.h"

namespace aligndraw::cpu {

// Whether 0 times each number is 0. Of as many sums as hide the time that an addition takes.
template <class T>
ALIGNDRAW_INLINE bool all_finite(const T* numbers, int64_t count) {
  constexpr int64_t sum_count = 4, lanes = 64 / sizeof(T), step = sum_count * lanes;
  Vector<T, lanes> sums[sum_count] = {}, value;
  int64_t n = 0;
  for (; n + step <= count; n += step)
    for (int64_t i = 0; i < sum_count; ++i) {
      load(value, numbers + n + i * lanes);
      sums[i] += value * 0;
    }
  T zero = 0;
  for (; n < count; ++n) zero += numbers[n] * 0;
  sums[0] += sums[1] + (sums[2] + sums[3]);
  for (int64_t i = 0; i < lanes; ++i) zero += sums[0][i];
  return zero == 0;
}

// The filters of one axis, i = 0 ... size - 1, on pixels a = 0 ... length - 1. Vectors run over the
// filters: the arrays are [length, lanes], where lanes is the next multiple of 8. The filters that
// make it one continue the grid, and what comes of them is not used.
template <class T>
struct Filters {
  using V = Vector<T, 8>;

  explicit Filters(int64_t size, int64_t length, int64_t longest)
      : size(size), length(length), longest(longest) {}

  const int64_t size, length, longest;
  const int64_t lanes = (size + 7) / 8 * 8;
  const Buffer<T> taps{length * lanes};          // F transposed
  const Buffer<T> centres{lanes}, rests{lanes};  // mu_i, and 1e-4 / (sum + 1e-4)
  int64_t first = 0, end = length;               // the pixels where some filter is not 0

  ALIGNDRAW_INLINE void place(T centre, T spacing, T sharpness) {
    T *const tap = taps, *const mu = centres;
    for (int64_t i = 0; i < lanes; ++i)
      mu[i] = centre + math::filter_reach<T>(i, size, longest) * spacing;
    for (int64_t i = 0; i < lanes; i += 8) {
      V of_filter;
      load(of_filter, mu + i);
      for (int64_t a = 0; a < length; ++a) store(tap + a * lanes + i, T(a + 1) - of_filter);
    }
#pragma omp simd
    for (int64_t n = 0; n < length * lanes; ++n) tap[n] = math::gaussian(tap[n], sharpness);
    const auto is_dark = [=, this](int64_t a) {  // all 0, looked at in whole words
      uint64_t bits = 0;
      for (int64_t i = 0; i < lanes; i += 8) {
        uint64_t words[sizeof(V) / sizeof(uint64_t)];
        std::memcpy(words, tap + a * lanes + i, sizeof words);
        for (const uint64_t word : words) bits |= word;
      }
      return bits == 0;
    };
    first = 0, end = length;
    while (first < end && is_dark(first)) ++first;
    while (end > first && is_dark(end - 1)) --end;
    for (int64_t i = 0; i < lanes; i += 8) {
      V norm = {}, value;
      for (int64_t n = first * lanes + i; n < end * lanes; n += lanes) {
        load(value, tap + n);
        norm += value;
      }
      norm = 1 / (norm + T(math::normaliser_floor));
      for (int64_t n = first * lanes + i; n < end * lanes; n += lanes) {
        load(value, tap + n);
        store(tap + n, value * norm);
      }
      store(rests + i, norm * T(math::normaliser_floor));
    }
  }

  // Given the gradient of the taps, [end - first, lanes].
  ALIGNDRAW_INLINE math::AxisGrads<T> backward(const T* grad, T sharpness) const {
    math::AxisGrads<T> grads;
    for (int64_t i = 0; i < lanes; i += 8) {
      math::Peak<V> peak;
      V along = {}, pull = {}, spread = {}, offset = {}, square_offset = {}, f, g, w, rest;
      for (int64_t lane = 0; lane < 8; ++lane)
        peak.pixel[lane] = math::peak_pixel(centres[i + lane], length);
      load(f, centres + i);
      peak.lean = peak.pixel - f;
      load(rest, rests + i);
      for (int64_t a = first; a < end; ++a) {
        load(f, taps + a * lanes + i);
        load(g, grad + (a - first) * lanes + i);
        const V u = T(a + 1) - peak.pixel;
        peak.square(u, w);
        along += g * f;
        pull += g * f * u;
        spread += g * f * w;
        offset += f * u;
        square_offset += f * w;
      }
      peak.take_rest(rest, offset, square_offset);
      pull -= along * offset;
      spread -= along * square_offset;
      for (int64_t lane = 0; lane < 8 && i + lane < size; ++lane)
        grads.add(math::filter_reach<T>(i + lane, size, longest), sharpness, along[lane],
                  pull[lane], spread[lane]);
    }
    return grads;
  }
};

// The window of one image, and the box of pixels that it touches: outside it every filter is 0, by
// underflow, and 0 times a pixel is left out. Only where a pixel is not finite it is not 0: then
// the box must be the whole image. Patches are [planes, size, lanes] here, with zeros behind each
// row.
template <class T>
struct Window {
  explicit Window(int64_t size, int64_t height, int64_t width)
      : size(size), height(height), width(width) {}

  const int64_t size, height, width;
  const int64_t longest = std::max(height, width);
  Filters<T> y{size, height, longest}, x{size, width, longest};
  const int64_t lanes = x.lanes;
  math::Grid<T> grid = {};

  ALIGNDRAW_INLINE void place(const T* window) {
    grid = math::grid(window, height, width);
    x.place(grid.x, grid.spacing, grid.sharpness);
    y.place(grid.y, grid.spacing, grid.sharpness);
    if (std::isnan(grid.x + grid.y + grid.gamma)) touch_all();
  }

  ALIGNDRAW_INLINE bool touches_all() const {
    return y.end - y.first == height && x.end - x.first == width;
  }

  ALIGNDRAW_INLINE void touch_all() {
    x.first = y.first = 0;
    x.end = width, y.end = height;
  }

  ALIGNDRAW_INLINE void touch_all_unless_finite(const T* numbers, int64_t count) {
    if (touches_all()) return;
    if (!all_finite(numbers, count)) touch_all();
  }

  ALIGNDRAW_INLINE int64_t box() const { return y.first * width + x.first; }  // its first pixel

  // rows [size, width], from the box's first column on, = F_Y X
  ALIGNDRAW_INLINE void filter_rows(const T* pixels, T* rows) const {
    product({y.taps + y.first * lanes, 1, lanes}, {pixels + box(), width}, {rows, width}, size,
            y.end - y.first, x.end - x.first);
  }

  // patch = (F_Y X) F_X^T, of `planes` planes one after another
  ALIGNDRAW_INLINE void filter_columns(const T* rows, T* patch, int64_t planes) const {
    product({rows, width, 1}, {x.taps + x.first * lanes, lanes}, {patch, lanes}, planes * size,
            x.end - x.first, lanes);
  }

  // patch = scale given, for `planes` planes of [size, size]
  ALIGNDRAW_INLINE void widen(const T* given, T scale, T* patch, int64_t planes) const {
    for (int64_t r = 0; r < planes * size; ++r)
      for (int64_t i = 0; i < lanes; ++i)
        patch[r * lanes + i] = i < size ? scale * given[r * size + i] : T(0);
  }

  // result = scale patch, likewise
  ALIGNDRAW_INLINE void narrow(const T* patch, T scale, T* result, int64_t planes) const {
    for (int64_t r = 0; r < planes * size; ++r)
      for (int64_t i = 0; i < size; ++i) result[r * size + i] = scale * patch[r * lanes + i];
  }
};

// F_Y^T K F_X: a patch drawn.
template <class T>
struct Drawing {
  explicit Drawing(const Window<T>& window) : window(window) {}

  const Window<T>& window;
  const Buffer<T> columns{window.size * window.width};  // F_X in the box
  const Buffer<T> half{window.height * window.lanes};   // F_Y^T K in the box

  ALIGNDRAW_INLINE void place() const {
    const auto& x = window.x;
    const T* const taps = x.taps + x.first * x.lanes;
    for (int64_t b = 0; b < x.end - x.first; ++b)
      for (int64_t i = 0; i < x.size; ++i) columns[i * x.length + b] = taps[b * x.lanes + i];
  }

  // pixels [height, width], on top of `start` where there is one, else of 0
  ALIGNDRAW_INLINE void draw(const T* patch, T* pixels, const T* start = nullptr) const {
    const auto &y = window.y, &x = window.x;
    if (!window.touches_all()) {
      if (start)
        std::copy_n(start, y.length * x.length, pixels);
      else
        std::fill_n(pixels, y.length * x.length, T(0));
    }
    const int64_t rows = y.end - y.first, lanes = window.lanes;
    product({y.taps + y.first * lanes, lanes, 1}, {patch, lanes}, {half, lanes}, rows, y.size,
            lanes);
    product({half, lanes, 1}, {columns, x.length}, {pixels + window.box(), x.length}, rows, x.size,
            x.end - x.first, start ? start + window.box() : nullptr);
  }
};

// The gradient of the window, from that of F_Y X F_X^T.
template <class T>
struct WindowGrads {
  explicit WindowGrads(const Window<T>& window) : window(window) {}

  const Window<T>& window;
  const Buffer<T> turned{window.size * window.lanes};    // the gradient of the patch, transposed
  const Buffer<T> columns{window.width * window.lanes};  // F_X^T times it
  const Buffer<T> y{window.height * window.lanes}, x{window.width * window.lanes};

  // Adds up the filters' gradients of one plane after another: its pixels, F_Y X, and the gradient.
  ALIGNDRAW_INLINE void add(bool is_first, const T* pixels, const T* rows, const T* patch) const {
    const int64_t size = window.size, lanes = window.lanes, width = window.width;
    const int64_t y_count = window.y.end - window.y.first, x_count = window.x.end - window.x.first;
    for (int64_t i = 0; i < size; ++i)
      for (int64_t j = 0; j < lanes; ++j)
        turned[i * lanes + j] = j < size ? patch[j * lanes + i] : T(0);
    product({window.x.taps + window.x.first * lanes, lanes, 1}, {turned, lanes}, {columns, lanes},
            x_count, size, lanes);
    product({pixels + window.box(), width, 1}, {columns, lanes}, {y, lanes}, y_count, x_count,
            lanes, is_first ? nullptr : y.data());
    product({rows, 1, width}, {patch, lanes}, {x, lanes}, x_count, size, lanes,
            is_first ? nullptr : x.data());
  }

  // `power` is that of gamma in front of the product.
  ALIGNDRAW_INLINE void finish(int power, const T* parameters, T* grad_parameters) const {
    const auto x_grads = window.x.backward(x, window.grid.sharpness);
    const auto y_grads = window.y.backward(y, window.grid.sharpness);
    math::window_backward(x_grads, y_grads, power * x_grads.along, parameters, window.grid,
                          window.height, window.width, grad_parameters);
  }
};

}  // namespace aligndraw::cpu
