// Glimpses on the device, for read and write: the filters of one window and the products with them,
// in tiles of 16 filters on 64 x 64 pixels. No filter goes to global memory: a block makes its own
// from the window's five numbers.
#pragma once
#include "../math/filterbank.h"
#include "launch.h"
#include "number.h"
#include "sum.h"

namespace aligndraw::cuda {

namespace glimpse {

constexpr int threads = 256, warps = threads / warp_threads;
constexpr int tile_filters = 16, tile_pixels = 64;
constexpr int grad_count = 5;  // sums from which a window's gradient is made
static_assert(tile_filters * tile_filters == threads,
              "one thread per element of a tile of the patch");
// Blocks per multiprocessor: float64 needs twice the registers.
template <class F>
constexpr int blocks_at_once = sizeof(typename F::Number) == 4 ? 2 : 1;

// Iterations of a loop that a thread unrolls.
template <class T>
constexpr int at_once = sizeof(T) == 4 ? 4 : 1;

// The stride of pixel rows in shared memory. The pixels of a column lie in different banks.
constexpr int stride = tile_pixels + 1;

__device__ __forceinline__ int tile_part(int64_t length, int64_t first, int tile) {
  return length - first < tile ? int(length - first) : tile;
}

// Filters of one axis, in shared memory. All threads call each function.
template <class T>
struct Bank {
  // mu and 1 / (sum + 1e-4). Gradients also use the distance from the window's centre, the pixel
  // nearest to mu, and the two offsets of math::Peak.
  struct Filter {
    T centre, norm, reach, peak, offset, square_offset;
  };

  int64_t length, size, longest;  // of the axis, filters, and of the longer axis
  T centre, spacing, sharpness;
  Filter* filters;  // [tile_filters]
  T* taps;          // [tile_filters, stride]
  int64_t first_filter = 0, first_pixel = 0;
  int filter_count = 0, pixel_count = 0;

  __device__ __forceinline__ Bank(SharedArrays& shared, int64_t length, const GlimpseSizes& sizes,
                                  T centre, const math::Grid<T>& grid)
      : length(length),
        size(sizes.size),
        longest(sizes.height > sizes.width ? sizes.height : sizes.width),
        centre(centre),
        spacing(grid.spacing),
        sharpness(grid.sharpness),
        filters(shared.allocate<Filter>(tile_filters)),
        taps(shared.allocate<T>(tile_filters * stride)) {}

  static size_t bytes() {
    return shared_bytes<Filter>(tile_filters) + shared_bytes<T>(tile_filters * stride);
  }

  __device__ __forceinline__ T weight(T mu, int64_t a) const {
    return math::gaussian(T(a + 1) - mu, sharpness);
  }

  // Chooses the filters from `first` on, one warp per filter.
  template <bool for_grads = false>
  __device__ __forceinline__ void choose(int64_t first) {
    first_filter = first;
    filter_count = tile_part(size, first, tile_filters);
    const int warp = threadIdx.x / warp_threads, lane = threadIdx.x % warp_threads;
    for (int i = warp; i < filter_count; i += warps) {
      const T reach = math::filter_reach<T>(first + i, size, longest);
      const T mu = centre + reach * spacing;
      const T nearest = math::peak_pixel(mu, length);
      const math::Peak<T> peak{nearest, nearest - mu};
      T sum = 0, offset = 0, square_offset = 0, w;
#pragma unroll at_once < T>
      for (int64_t a = lane; a < length; a += warp_threads) {
        const T tap = weight(mu, a), u = T(a + 1) - peak.pixel;
        sum += tap;
        if constexpr (for_grads) {
          peak.square(u, w);
          offset += tap * u;
          square_offset += tap * w;
        }
      }
      const T norm = 1 / (warp_sum(sum) + T(math::normaliser_floor));
      if (lane == 0) filters[i].centre = mu, filters[i].norm = norm;
      if constexpr (for_grads) {
        offset = warp_sum(offset) * norm;
        square_offset = warp_sum(square_offset) * norm;
        peak.subtract_deficit(norm * T(math::normaliser_floor), offset, square_offset);
        if (lane == 0) filters[i] = {mu, norm, reach, nearest, offset, square_offset};
      }
    }
  }

  // Evaluates the chosen filters on the pixels from `first` on; 0 beyond the axis.
  __device__ __forceinline__ void place(int64_t first) {
    first_pixel = first;
    pixel_count = tile_part(length, first, tile_pixels);
#pragma unroll at_once < T>
    for (int n = threadIdx.x; n < filter_count * tile_pixels; n += threads) {
      const int i = n / tile_pixels, a = n % tile_pixels;
      const T tap = weight(filters[i].centre, first + a) * filters[i].norm;
      taps[i * stride + a] = a < pixel_count ? tap : T(0);
    }
  }

  // Adds the gradient of the tap of chosen filter i on pixel a of the tile.
  __device__ __forceinline__ void add_grad(int i, int a, T grad, math::AxisGrads<T>& grads) const {
    const Filter& filter = filters[i];
    const math::Peak<T> peak{filter.peak, filter.peak - filter.centre};
    const T weighted = grad * taps[i * stride + a], u = T(first_pixel + a + 1) - peak.pixel;
    T w;
    peak.square(u, w);
    grads.add(filter.reach, sharpness, weighted, weighted * (u - filter.offset),
              weighted * (w - filter.square_offset));
  }
};

// A window of the five numbers number(0), ..., number(4): its two filter banks, and rows of the
// width of a tile.
template <class T>
struct Window {
  T parameters[5];
  math::Grid<T> grid;
  Bank<T> y, x;
  T* patch;  // [tile_filters, tile_filters]
  T* rows;   // [tile_filters, stride]

  template <class Number>
  __device__ __forceinline__ Window(SharedArrays& shared, const Number& number,
                                    const GlimpseSizes& sizes)
      : parameters{number(0), number(1), number(2), number(3), number(4)},
        grid(math::grid(parameters, sizes.height, sizes.width)),
        y(shared, sizes.height, sizes, grid.y, grid),
        x(shared, sizes.width, sizes, grid.x, grid),
        patch(shared.allocate<T>(tile_filters * tile_filters)),
        rows(shared.allocate<T>(tile_filters * stride)) {}

  static size_t bytes() {
    return 2 * Bank<T>::bytes() + shared_bytes<T>(tile_filters * tile_filters) +
           shared_bytes<T>(tile_filters * stride);
  }

  // Calls the function with this thread's element n of a patch [size, size], if the chosen filters
  // cover it.
  template <class Call>
  __device__ __forceinline__ void for_element(const Call& call) const {
    const int j = threadIdx.x / tile_filters, i = threadIdx.x % tile_filters;
    if (j < y.filter_count && i < x.filter_count)
      call((y.first_filter + j) * y.size + x.first_filter + i);
  }

  // Loads the elements of a patch that the chosen filters cover.
  template <class Value>
  __device__ __forceinline__ void load_patch(const Value& value) const {
    for_element([&](int64_t n) { patch[threadIdx.x] = value(n); });
  }

  // result [j, a] = sum over i of patch [j, i] F_X [i, a]
  __device__ __forceinline__ void widen_patch(T* result) const {
#pragma unroll at_once < T>
    for (int n = threadIdx.x; n < y.filter_count * tile_pixels; n += threads) {
      const int j = n / tile_pixels, a = n % tile_pixels;
      result[j * stride + a] = sum_of<T>(x.filter_count, [&](int i) {
        return patch[j * tile_filters + i] * x.taps[i * stride + a];
      });
    }
  }

  // rows [j, a] = sum over the tile's rows r of F_Y [j, r] pixels [r, a]
  __device__ __forceinline__ void filter_rows(const T* pixels) const {
#pragma unroll at_once < T>
    for (int n = threadIdx.x; n < y.filter_count * tile_pixels; n += threads) {
      const int j = n / tile_pixels, a = n % tile_pixels;
      if (a >= x.pixel_count) continue;
      rows[j * stride + a] = sum_of<T>(
          y.pixel_count, [&](int r) { return y.taps[j * stride + r] * pixels[r * stride + a]; });
    }
  }

  // This thread's element of rows F_X^T.
  __device__ __forceinline__ T filter_columns() const {
    const int j = threadIdx.x / tile_filters, i = threadIdx.x % tile_filters;
    if (j >= y.filter_count || i >= x.filter_count) return 0;
    return sum_of<T>(x.pixel_count,
                     [&](int a) { return rows[j * stride + a] * x.taps[i * stride + a]; });
  }

  // pixels [r, a] = value(n) for the tile's pixels n of an image
  template <class Value>
  __device__ __forceinline__ void load_pixels(T* pixels, const Value& value) const {
#pragma unroll at_once < T>
    for (int n = threadIdx.x; n < y.pixel_count * tile_pixels; n += threads) {
      const int r = n / tile_pixels, a = n % tile_pixels;
      if (a < x.pixel_count)
        pixels[r * stride + a] = value((y.first_pixel + r) * x.length + x.first_pixel + a);
    }
  }

  // Adds the gradient of F_X, from the patch's gradient and the rows.
  __device__ __forceinline__ void add_x_grads(math::AxisGrads<T>& grads) const {
#pragma unroll at_once < T>
    for (int n = threadIdx.x; n < x.filter_count * tile_pixels; n += threads) {
      const int i = n / tile_pixels, a = n % tile_pixels;
      if (a >= x.pixel_count) continue;
      const T grad = sum_of<T>(y.filter_count, [&](int j) {
        return patch[j * tile_filters + i] * rows[j * stride + a];
      });
      x.add_grad(i, a, grad, grads);
    }
  }

  // Adds the gradient of F_Y, from the pixels and the widened patch.
  __device__ __forceinline__ void add_y_grads(const T* pixels, const T* wide,
                                              math::AxisGrads<T>& grads) const {
#pragma unroll at_once < T>
    for (int n = threadIdx.x; n < y.filter_count * tile_pixels; n += threads) {
      const int j = n / tile_pixels, r = n % tile_pixels;
      if (r >= y.pixel_count) continue;
      const T grad = sum_of<T>(
          x.pixel_count, [&](int a) { return pixels[r * stride + a] * wide[j * stride + a]; });
      y.add_grad(j, r, grad, grads);
    }
  }
};

// Number i of window b, of [B, 5].
template <class F>
struct Numbers {
  InputArray window;

  __device__ __forceinline__ auto operator()(int64_t b, int i) const {
    return F::load(window, 5 * b + i);
  }
};

// The number of tiles of pixels: one block draws one tile.
__host__ __device__ __forceinline__ int64_t tiles(int64_t length) {
  return (length + tile_pixels - 1) / tile_pixels;
}

__host__ __device__ __forceinline__ int64_t tiles(const GlimpseSizes& s) {
  return s.batch * s.channels * tiles(s.height) * tiles(s.width);
}

inline dim3 drawing_blocks(const GlimpseSizes& s) { return row_of(tiles(s)); }

// F_Y^T K F_X in a tile of one channel, summed in registers over patches and their windows.
template <class T>
struct Drawing {
  // A thread's pixels are in one column, `row_step` apart.
  static constexpr int row_step = threads / tile_pixels, count = tile_pixels / row_step;
  T sums[count] = {};

  // Adds K [p, p], with the elements patch(grid, n), in the tile from (top, left) on.
  template <class Patch>
  __device__ __forceinline__ void add(Window<T>& window, int64_t size, int64_t top, int64_t left,
                                      const Patch& patch) {
    auto &y = window.y, &x = window.x;
    const int a = threadIdx.x % tile_pixels, r = threadIdx.x / tile_pixels;
    for (int64_t j = 0; j < size; j += tile_filters)
      for (int64_t i = 0; i < size; i += tile_filters) {
        y.choose(j);
        x.choose(i);
        __syncthreads();
        y.place(top);
        x.place(left);
        window.load_patch([&](int64_t n) { return patch(window.grid, n); });
        __syncthreads();
        window.widen_patch(window.rows);
        __syncthreads();
#pragma unroll at_once < T>
        for (int f = 0; f < y.filter_count; ++f) {
          const T row = window.rows[f * stride + a];
#pragma unroll
          for (int k = 0; k < count; ++k) sums[k] += y.taps[f * stride + r + k * row_step] * row;
        }
      }
  }

  // Calls pixel(n, at, drawn) for the thread's pixels: n in the channel, `at` in shared memory.
  template <class Pixel>
  __device__ __forceinline__ void for_pixels(const Window<T>& window, const Pixel& pixel) const {
    const auto &y = window.y, &x = window.x;
    const int a = threadIdx.x % tile_pixels, r = threadIdx.x / tile_pixels;
    if (a >= x.pixel_count) return;
#pragma unroll
    for (int k = 0; k < count; ++k) {
      const int row = r + k * row_step;
      if (row < y.pixel_count)
        pixel((y.first_pixel + row) * x.length + x.first_pixel + a, row * stride + a, sums[k]);
    }
  }
};

// The tile, and the channel b C + c, that a block of drawing_blocks() draws.
struct Tile {
  int64_t channel, top, left;

  __device__ __forceinline__ Tile(int64_t index, const GlimpseSizes& sizes) {
    const int64_t across = tiles(sizes.width), down = tiles(sizes.height);
    channel = index / (across * down);
    top = index % (across * down) / across * tile_pixels;
    left = index % across * tile_pixels;
  }
};

// Draws one tile of channel b C + c of a batch of images. number(b, i) is window b,
// patch(channel, grid, n) are the elements of K, and pixel(channel, n, drawn) receives each pixel.
template <class T, class Number, class Patch, class Pixel>
__device__ __forceinline__ void draw(SharedArrays shared, int64_t index, const Number& number,
                                     const GlimpseSizes& sizes, const Patch& patch,
                                     const Pixel& pixel) {
  const Tile tile(index, sizes);
  const int64_t b = tile.channel / sizes.channels;
  Window<T> window(shared, [&](int i) { return number(b, i); }, sizes);
  Drawing<T> drawing;
  drawing.add(window, sizes.size, tile.top, tile.left,
              [&](const math::Grid<T>& grid, int64_t n) { return patch(tile.channel, grid, n); });
  drawing.for_pixels(window, [&](int64_t n, int, T drawn) { pixel(tile.channel, n, drawn); });
}

// Forms F_Y X F_X^T of one channel X. load(window, pixels) puts the current tile of X into shared
// memory, and result(grid, n, sum) receives the elements of the glimpse.
template <class T, class Number, class Load, class Result>
__device__ __forceinline__ void read(SharedArrays shared, const Number& number,
                                     const GlimpseSizes& sizes, const Load& load,
                                     const Result& result) {
  Window<T> window(shared, number, sizes);
  T* const pixels = shared.allocate<T>(tile_pixels * stride);
  auto &y = window.y, &x = window.x;
  for (int64_t j = 0; j < sizes.size; j += tile_filters)
    for (int64_t i = 0; i < sizes.size; i += tile_filters) {
      y.choose(j);
      x.choose(i);
      T sum = 0;
      for (int64_t r = 0; r < sizes.height; r += tile_pixels)
        for (int64_t a = 0; a < sizes.width; a += tile_pixels) {
          __syncthreads();
          y.place(r);
          x.place(a);
          load(window, pixels);
          __syncthreads();
          window.filter_rows(pixels);
          __syncthreads();
          sum += window.filter_columns();
        }
      window.for_element([&](int64_t n) { result(window.grid, n, sum); });
    }
}

template <class T>
size_t read_bytes() {
  return Window<T>::bytes() + shared_bytes<T>(tile_pixels * stride);
}

// Forms the gradient of window b from the gradients of its glimpses, with one block per image.
// patch(channel, grid, n) are the elements of the gradients with all factors; `power` is the power
// of gamma among the factors. store(i, grad) receives the five numbers.
template <class T, class Number, class Store, class Pixel, class Patch, class Result>
__device__ __forceinline__ void window_grads(SharedArrays shared, int64_t b, const Number& number,
                                             const Store& store, const GlimpseSizes& sizes,
                                             int64_t channels, int power, const Pixel& pixel,
                                             const Patch& patch, const Result& result) {
  Window<T> window(shared, number, sizes);
  T* const pixels = shared.allocate<T>(tile_pixels * stride);
  T* const wide = shared.allocate<T>(tile_filters * stride);  // the patch's gradient times F_X
  T* const parts = shared.allocate<T>(grad_count * warps);
  auto &y = window.y, &x = window.x;
  math::AxisGrads<T> y_grads, x_grads;
  for (int64_t j = 0; j < sizes.size; j += tile_filters)
    for (int64_t i = 0; i < sizes.size; i += tile_filters) {
      __syncthreads();
      y.template choose<true>(j);
      x.template choose<true>(i);
      for (int64_t channel = b * channels; channel < (b + 1) * channels; ++channel) {
        T sum = 0;
        for (int64_t r = 0; r < sizes.height; r += tile_pixels)
          for (int64_t a = 0; a < sizes.width; a += tile_pixels) {
            __syncthreads();
            y.place(r);
            x.place(a);
            window.load_pixels(pixels, [&](int64_t n) { return pixel(channel, n); });
            window.load_patch([&](int64_t n) { return patch(channel, window.grid, n); });
            __syncthreads();
            window.filter_rows(pixels);
            window.widen_patch(wide);
            __syncthreads();
            sum += window.filter_columns();
            window.add_x_grads(x_grads);
            window.add_y_grads(pixels, wide, y_grads);
          }
        window.for_element([&](int64_t n) { result(channel, window.grid, n, sum); });
      }
    }
  T sums[grad_count] = {x_grads.centre, y_grads.centre, x_grads.spacing + y_grads.spacing,
                        x_grads.log_variance + y_grads.log_variance, x_grads.grad_sum};
  block_sum(sums, parts);
  if (threadIdx.x > 0) return;
  x_grads = {sums[0], sums[2], sums[3], sums[4]};
  y_grads = {sums[1]};
  T grads[5];
  math::window_backward(x_grads, y_grads, power * x_grads.grad_sum, window.parameters, window.grid,
                        sizes.height, sizes.width, grads);
  for (int n = 0; n < 5; ++n) store(n, grads[n]);
}

template <class T>
size_t window_grads_bytes() {
  return read_bytes<T>() + shared_bytes<T>(tile_filters * stride) +
         shared_bytes<T>(grad_count * warps);
}

}  // namespace glimpse
}  // namespace aligndraw::cuda
