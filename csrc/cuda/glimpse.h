// What read and write share on the device: the filters of one window and the products with them, a
// tile of 16 filters on 64 x 64 pixels at a time. No filter goes to global memory: a block makes
// its own from the window's five numbers.
#pragma once
#include "../math/filterbank.h"
#include "launch.h"
#include "number.h"
#include "sum.h"

namespace aligndraw::cuda {

namespace glimpse {

constexpr int threads = 256, warps = threads / warp_threads;
constexpr int tile_filters = 16, tile_pixels = 64;
constexpr int grad_count = 5;  // numbers that the gradient of a window is made of
static_assert(tile_filters * tile_filters == threads, "a thread an element of a tile of the patch");
// That share a multiprocessor: float64 takes twice the registers.
template <class F>
constexpr int blocks_at_once = sizeof(typename F::Number) == 4 ? 2 : 1;

// Rows of pixels in shared memory. A column of them lies in different banks.
constexpr int stride = tile_pixels + 1;

__device__ __forceinline__ int tile_part(int64_t length, int64_t first, int tile) {
  return length - first < tile ? int(length - first) : tile;
}

// Some filters of one axis, in shared memory. Every thread calls each function.
template <class T>
struct Bank {
  // mu and 1 / (sum + 1e-4); for gradients also how far it stands from the window's centre, the
  // pixel nearest to mu, and the two offsets of math::Peak.
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
        filters(shared.take<Filter>(tile_filters)),
        taps(shared.take<T>(tile_filters * stride)) {}

  static size_t bytes() {
    return shared_bytes<Filter>(tile_filters) + shared_bytes<T>(tile_filters * stride);
  }

  __device__ __forceinline__ T weight(T mu, int64_t a) const {
    return math::gaussian(T(a + 1) - mu, sharpness);
  }

  // Turns to the filters from `first` on: a warp a filter.
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
        peak.take_rest(norm * T(math::normaliser_floor), offset, square_offset);
        if (lane == 0) filters[i] = {mu, norm, reach, nearest, offset, square_offset};
      }
    }
  }

  // The chosen filters on the pixels from `first` on, and 0 beyond the axis.
  __device__ __forceinline__ void place(int64_t first) {
    first_pixel = first;
    pixel_count = tile_part(length, first, tile_pixels);
    for (int n = threadIdx.x; n < filter_count * tile_pixels; n += threads) {
      const int i = n / tile_pixels, a = n % tile_pixels;
      const T tap = weight(filters[i].centre, first + a) * filters[i].norm;
      taps[i * stride + a] = a < pixel_count ? tap : T(0);
    }
  }

  // Takes in the gradient of the tap of chosen filter i on pixel a of the tile.
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

// The window of image b, its two banks, and rows of the width of a tile: what every kernel needs.
template <class F, class T = typename F::Number>
struct Window {
  T parameters[5];
  math::Grid<T> grid;
  Bank<T> y, x;
  T* patch;  // [tile_filters, tile_filters]
  T* rows;   // [tile_filters, stride]

  __device__ __forceinline__ Window(SharedArrays& shared, In window, int64_t b,
                                    const GlimpseSizes& sizes)
      : parameters{F::load(window, 5 * b), F::load(window, 5 * b + 1), F::load(window, 5 * b + 2),
                   F::load(window, 5 * b + 3), F::load(window, 5 * b + 4)},
        grid(math::grid(parameters, sizes.height, sizes.width)),
        y(shared, sizes.height, sizes, grid.y, grid),
        x(shared, sizes.width, sizes, grid.x, grid),
        patch(shared.take<T>(tile_filters * tile_filters)),
        rows(shared.take<T>(tile_filters * stride)) {}

  static size_t bytes() {
    return 2 * Bank<T>::bytes() + shared_bytes<T>(tile_filters * tile_filters) +
           shared_bytes<T>(tile_filters * stride);
  }

  // Calls for this thread's element n of a patch [size, size], if the chosen filters have it.
  template <class Call>
  __device__ __forceinline__ void for_element(const Call& call) const {
    const int j = threadIdx.x / tile_filters, i = threadIdx.x % tile_filters;
    if (j < y.filter_count && i < x.filter_count)
      call((y.first_filter + j) * y.size + x.first_filter + i);
  }

  // The chosen filters' part of a patch.
  template <class Value>
  __device__ __forceinline__ void load_patch(const Value& value) const {
    for_element([&](int64_t n) { patch[threadIdx.x] = value(n); });
  }

  // result [j, a] = sum over i of patch [j, i] F_X [i, a]
  __device__ __forceinline__ void widen_patch(T* result) const {
    for (int n = threadIdx.x; n < y.filter_count * tile_pixels; n += threads) {
      const int j = n / tile_pixels, a = n % tile_pixels;
      result[j * stride + a] = sum_of<T>(x.filter_count, [&](int i) {
        return patch[j * tile_filters + i] * x.taps[i * stride + a];
      });
    }
  }

  // rows [j, a] = sum over the tile's rows r of F_Y [j, r] pixels [r, a]
  __device__ __forceinline__ void filter_rows(const T* pixels) const {
    for (int n = threadIdx.x; n < y.filter_count * tile_pixels; n += threads) {
      const int j = n / tile_pixels, a = n % tile_pixels;
      if (a >= x.pixel_count) continue;
      rows[j * stride + a] = sum_of<T>(y.pixel_count, [&](int r) {
        return y.taps[j * stride + r] * pixels[r * stride + a];
      });
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
    for (int n = threadIdx.x; n < y.pixel_count * tile_pixels; n += threads) {
      const int r = n / tile_pixels, a = n % tile_pixels;
      if (a < x.pixel_count)
        pixels[r * stride + a] = value((y.first_pixel + r) * x.length + x.first_pixel + a);
    }
  }

  // The gradient of F_X, from that of the patch and the rows,
  __device__ __forceinline__ void add_x_grads(math::AxisGrads<T>& grads) const {
    for (int n = threadIdx.x; n < x.filter_count * tile_pixels; n += threads) {
      const int i = n / tile_pixels, a = n % tile_pixels;
      if (a >= x.pixel_count) continue;
      const T grad = sum_of<T>(y.filter_count, [&](int j) {
        return patch[j * tile_filters + i] * rows[j * stride + a];
      });
      x.add_grad(i, a, grad, grads);
    }
  }

  // and that of F_Y, from the pixels and the widened patch.
  __device__ __forceinline__ void add_y_grads(const T* pixels, const T* wide,
                                              math::AxisGrads<T>& grads) const {
    for (int n = threadIdx.x; n < y.filter_count * tile_pixels; n += threads) {
      const int j = n / tile_pixels, r = n % tile_pixels;
      if (r >= y.pixel_count) continue;
      const T grad = sum_of<T>(x.pixel_count, [&](int a) {
        return pixels[r * stride + a] * wide[j * stride + a];
      });
      y.add_grad(j, r, grad, grads);
    }
  }
};

// The tiles that pixels are drawn in, a block each.
__host__ __device__ __forceinline__ int64_t tiles(int64_t length) {
  return (length + tile_pixels - 1) / tile_pixels;
}

inline dim3 drawing_blocks(const GlimpseSizes& s) {
  return row_of(s.batch * s.channels * tiles(s.height) * tiles(s.width));
}

// F_Y^T K F_X in one tile of one channel of an image: patch(plane, grid, n) are the elements of K,
// and pixel(plane, n, drawn) gets each pixel, where plane = b C + c.
template <class F, class Patch, class Pixel>
__device__ __forceinline__ void draw(In window_in, const GlimpseSizes& sizes, const Patch& patch,
                                     const Pixel& pixel) {
  using T = typename F::Number;
  const int64_t across = tiles(sizes.width), down = tiles(sizes.height);
  const int64_t plane = blockIdx.x / (across * down), tile = blockIdx.x % (across * down);
  SharedArrays shared;
  Window<F> window(shared, window_in, plane / sizes.channels, sizes);
  auto &y = window.y, &x = window.x;
  // A thread's pixels are in one column, `row_step` apart.
  constexpr int row_step = threads / tile_pixels, count = tile_pixels / row_step;
  const int a = threadIdx.x % tile_pixels, r = threadIdx.x / tile_pixels;
  T sums[count] = {};
  for (int64_t j = 0; j < sizes.size; j += tile_filters)
    for (int64_t i = 0; i < sizes.size; i += tile_filters) {
      y.choose(j);
      x.choose(i);
      __syncthreads();
      y.place(tile / across * tile_pixels);
      x.place(tile % across * tile_pixels);
      window.load_patch([&](int64_t n) { return patch(plane, window.grid, n); });
      __syncthreads();
      window.widen_patch(window.rows);
      __syncthreads();
      for (int f = 0; f < y.filter_count; ++f) {
        const T row = window.rows[f * stride + a];
#pragma unroll
        for (int k = 0; k < count; ++k) sums[k] += y.taps[f * stride + r + k * row_step] * row;
      }
    }
  if (a >= x.pixel_count) return;
#pragma unroll
  for (int k = 0; k < count; ++k)
    if (r + k * row_step < y.pixel_count)
      pixel(plane,
            (y.first_pixel + r + k * row_step) * sizes.width + x.first_pixel + a, sums[k]);
}

// F_Y X F_X^T of one plane of an image, a block a plane: pixel(plane, n) are the elements of X, and
// result(plane, grid, n, sum) gets those of the glimpse. There are `planes` an image.
template <class F, class Pixel, class Result>
__device__ __forceinline__ void look(In window_in, const GlimpseSizes& sizes, int64_t planes,
                                     const Pixel& pixel, const Result& result) {
  using T = typename F::Number;
  const int64_t plane = blockIdx.x;
  SharedArrays shared;
  Window<F> window(shared, window_in, plane / planes, sizes);
  T* const pixels = shared.take<T>(tile_pixels * stride);
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
          window.load_pixels(pixels, [&](int64_t n) { return pixel(plane, n); });
          __syncthreads();
          window.filter_rows(pixels);
          __syncthreads();
          sum += window.filter_columns();
        }
      window.for_element([&](int64_t n) { result(plane, window.grid, n, sum); });
    }
}

template <class F>
size_t looking_bytes() {
  using T = typename F::Number;
  return Window<F>::bytes() + shared_bytes<T>(tile_pixels * stride);
}

// The gradient of a window, given that of its glimpses, a block an image: patch(plane, grid, n) are
// the elements of the gradients, with all factors. `power` is that of gamma among these.
template <class F, class Pixel, class Patch, class Result>
__device__ __forceinline__ void window_grads(In window_in, Out grad_window,
                                             const GlimpseSizes& sizes, int64_t planes, int power,
                                             const Pixel& pixel, const Patch& patch,
                                             const Result& result) {
  using T = typename F::Number;
  const int64_t b = blockIdx.x;
  SharedArrays shared;
  Window<F> window(shared, window_in, b, sizes);
  T* const pixels = shared.take<T>(tile_pixels * stride);
  T* const wide = shared.take<T>(tile_filters * stride);  // the patch's gradient times F_X
  T* const parts = shared.take<T>(grad_count * warps);
  auto &y = window.y, &x = window.x;
  math::AxisGrads<T> y_grads, x_grads;
  for (int64_t j = 0; j < sizes.size; j += tile_filters)
    for (int64_t i = 0; i < sizes.size; i += tile_filters) {
      __syncthreads();
      y.template choose<true>(j);
      x.template choose<true>(i);
      for (int64_t plane = b * planes; plane < (b + 1) * planes; ++plane) {
        T sum = 0;
        for (int64_t r = 0; r < sizes.height; r += tile_pixels)
          for (int64_t a = 0; a < sizes.width; a += tile_pixels) {
            __syncthreads();
            y.place(r);
            x.place(a);
            window.load_pixels(pixels, [&](int64_t n) { return pixel(plane, n); });
            window.load_patch([&](int64_t n) { return patch(plane, window.grid, n); });
            __syncthreads();
            window.filter_rows(pixels);
            window.widen_patch(wide);
            __syncthreads();
            sum += window.filter_columns();
            window.add_x_grads(x_grads);
            window.add_y_grads(pixels, wide, y_grads);
          }
        window.for_element([&](int64_t n) { result(plane, window.grid, n, sum); });
      }
    }
  T sums[grad_count] = {x_grads.centre, y_grads.centre, x_grads.spacing + y_grads.spacing,
                        x_grads.log_variance + y_grads.log_variance, x_grads.along};
  block_sum(sums, parts);
  if (threadIdx.x > 0) return;
  x_grads = {sums[0], sums[2], sums[3], sums[4]};
  y_grads = {sums[1]};
  T grads[5];
  math::window_backward(x_grads, y_grads, power * x_grads.along, window.parameters, window.grid,
                        sizes.height, sizes.width, grads);
  for (int n = 0; n < 5; ++n) F::store(grad_window, 5 * b + n, grads[n]);
}

template <class F>
size_t window_grads_bytes() {
  using T = typename F::Number;
  return looking_bytes<F>() + shared_bytes<T>(tile_filters * stride) +
         shared_bytes<T>(grad_count * warps);
}

}  // namespace glimpse
}  // namespace aligndraw::cuda
