// What read and write share: the filterbanks of one image's window, as memory. The code that fills
// and uses them is in glimpse_kernels.h, compiled for each ISA.
#pragma once
#include "../math/filterbank.h"
#include "cpu.h"
#include "product.h"

namespace aligndraw::cpu {

// Rows of pixels are padded to a multiple of this. No vector is longer.
constexpr int64_t row_multiple = 16;
constexpr int64_t padded(int64_t n) { return (n + row_multiple - 1) / row_multiple * row_multiple; }

// Pixels [begin, end).
struct PixelRange {
  int64_t begin, end;
};

// The filters of one axis, i = 0 ... size - 1, on pixels a = 0 ... length - 1.
template <class T>
struct Filters {
  explicit Filters(int64_t size, int64_t length, int64_t longest) : size(size), length(length) {
    for (int64_t a = 0; a < stride; ++a) pixels[a] = a < length ? T(a + 1) : T(1e18);
    for (int64_t i = 0; i < padded(size); ++i)
      reaches[i] = i < size ? math::filter_reach<T>(i, size, longest) : T(0);
  }

  const int64_t size, length;
  const int64_t stride = padded(length);

 private:
  const int64_t row = padded(size);  // a number for each filter
  const Buffer<T> numbers{(1 + size) * stride + 5 * row + (1 + row_multiple) * padded(5 * size)};
  const Buffer<int32_t> bounds{2 * row};

 public:
  T* const pixels = numbers;  // a + 1; behind the last one, so far off that every filter is 0
  T* const reaches = pixels + stride;
  T* const taps = reaches + row;            // F
  T* const centres = taps + size * stride;  // mu_i
  T* const deficits = centres + row;        // 1e-4 / (sum + 1e-4)
  // The pixel nearest to a filter's centre, and how far off the centre it is.
  T *const peaks = deficits + row, *const peak_offsets = peaks + row;
  // Of the gradient: five sums of each filter, as vectors and added up.
  T *const sums = peak_offsets + row, *const found = sums + padded(5 * size) * row_multiple;
  // Outside these pixels products leave filter i out, as it is negligible; both grow with i.
  int32_t *const firsts = bounds, *const ends = firsts + row;
  int64_t first = 0, end = length;  // likewise of all filters

  bool touches_all() const { return firsts[size - 1] == 0 && ends[0] == length; }
};

// The window of one image, and the box of pixels that it touches: outside it every filter is
// negligible, and its products with pixels are left out. Where a pixel is not finite the products
// are not negligible: then the box must be the whole image, for each filter.
template <class T>
struct Window {
  explicit Window(int64_t size, int64_t height, int64_t width)
      : size(size), height(height), width(width) {}

  const int64_t size, height, width;
  const int64_t longest = std::max(height, width);
  Filters<T> y{size, height, longest}, x{size, width, longest};
  const int64_t stride = x.stride;                   // of what has rows as long as the image's
  const int64_t panels = size / 8 + (size % 8 > 2);  // of 8 filters; the last may have fewer
  const int64_t alone = std::max<int64_t>(0, size - 8 * panels);  // filters in no panel
  const int64_t panel = 8 * padded(width);                        // numbers
  const Buffer<T> columns{panels * panel};                        // F_X in panels
  math::Grid<T> grid = {};
};

// The gradient of a window, on the way.
template <class T>
struct WindowGrads {
  explicit WindowGrads(const Window<T>& window, int64_t channels)
      : patch(channels * window.size * window.size),
        drawn(channels * window.size * window.stride),
        weights(3 * window.size * window.y.stride),
        x(window.size * window.stride) {}

  const Buffer<T> patch;    // the gradient of each plane's glimpse K, times gamma or 1 / gamma
  const Buffer<T> drawn;    // K F_X
  const Buffer<T> weights;  // F_Y, and F_Y times the weights of its gradients
  const Buffer<T> x;        // the gradient of the x axis' filters
};

}  // namespace aligndraw::cpu
