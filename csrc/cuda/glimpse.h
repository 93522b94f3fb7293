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

// Iterations of a loop over pixels that a thread unrolls.
template <class T>
constexpr int at_once = sizeof(T) == 4 ? 4 : 1;

// The stride of pixel rows in shared memory. The pixels of a column lie in different banks.
constexpr int stride = tile_pixels + 1;

// A block covers a tile of pixels, or of filters by pixels, `rows_at_once` rows at a time: a thread
// has one column, and every rows_at_once-th row from its own on.
constexpr int rows_at_once = threads / tile_pixels;
__device__ __forceinline__ int own_row() { return threadIdx.x / tile_pixels; }
__device__ __forceinline__ int own_column() { return threadIdx.x % tile_pixels; }

__device__ __forceinline__ int tile_part(int length, int first, int tile) {
  return length - first < tile ? length - first : tile;
}

// One axis of a window: its pixels, the centre of its filters, and the tile of filters by pixels
// that shared memory holds.
template <class T>
struct Axis {
  int length;
  T centre;
  int first_filter = 0, filter_count = 0, first_pixel = 0, pixel_count = 0;
};

// A window of the five numbers number(0), ..., number(4): a tile of the filters of both axes, and
// rows of the width of a tile. All threads call each function. The filters of both axes are
// numbered together, those of y from 0 and those of x from tile_filters on, so that one code forms
// both.
template <class T>
struct Window {
  // mu and 1 / (sum + 1e-4). Gradients also use the distance from the window's centre, the pixel
  // nearest to mu, and the two offsets of math::Peak.
  struct Filter {
    T centre, norm, reach, peak, offset, square_offset;
  };

  math::Grid<T> grid;
  int size;  // filters of an axis
  Axis<T> y, x;
  Filter* filters;  // [2 tile_filters]
  T* taps;          // [2 tile_filters, stride]
  T* patch;         // [tile_filters, tile_filters]
  T* rows;          // [tile_filters, stride]

  template <class Number>
  __device__ __forceinline__ Window(SharedArrays& shared, const Number& number,
                                    const GlimpseSizes& sizes)
      : size(int(sizes.size)),
        filters(shared.allocate<Filter>(2 * tile_filters)),
        taps(shared.allocate<T>(2 * tile_filters * stride)),
        patch(shared.allocate<T>(tile_filters * tile_filters)),
        rows(shared.allocate<T>(tile_filters * stride)) {
    const T parameters[] = {number(0), number(1), number(2), number(3), number(4)};
    grid = math::grid(parameters, int(sizes.height), int(sizes.width));
    y = {int(sizes.height), grid.y};
    x = {int(sizes.width), grid.x};
  }

  static size_t bytes() {
    return shared_bytes<Filter>(2 * tile_filters) + shared_bytes<T>(2 * tile_filters * stride) +
           shared_bytes<T>(tile_filters * tile_filters) + shared_bytes<T>(tile_filters * stride);
  }

  __device__ __forceinline__ T* x_taps() const { return taps + tile_filters * stride; }

  __device__ __forceinline__ T weight(T mu, int a) const {
    return math::gaussian(T(a + 1) - mu, grid.sharpness);
  }

  // Chooses the filters from `first_y` and `first_x` on, one warp per filter.
  template <bool for_grads = false>
  __device__ __forceinline__ void choose(int first_y, int first_x) {
    y.first_filter = first_y, y.filter_count = tile_part(size, first_y, tile_filters);
    x.first_filter = first_x, x.filter_count = tile_part(size, first_x, tile_filters);
    const int warp = warp_index(), lane = threadIdx.x % warp_threads;
    const int longest = y.length > x.length ? y.length : x.length;
#pragma unroll 1
    for (int f = warp; f < 2 * tile_filters; f += warps) {
      const bool of_x = f >= tile_filters;
      const int i = f % tile_filters, length = of_x ? x.length : y.length;
      if (i >= (of_x ? x.filter_count : y.filter_count)) continue;
      const T reach = math::filter_reach<T>((of_x ? first_x : first_y) + i, size, longest);
      const T mu = (of_x ? x.centre : y.centre) + reach * grid.spacing;
      const T nearest = math::peak_pixel(mu, length);
      const math::Peak<T> peak{nearest, nearest - mu};
      T sum = 0, offset = 0, square_offset = 0, w;
#pragma unroll 1
      for (int a = lane; a < length; a += warp_threads) {
        const T tap = weight(mu, a), u = T(a + 1) - peak.pixel;
        sum += tap;
        if constexpr (for_grads) {
          peak.square(u, w);
          offset += tap * u;
          square_offset += tap * w;
        }
      }
      const T norm = 1 / (warp_sum(sum) + T(math::normaliser_floor));
      if (lane == 0) filters[f].centre = mu, filters[f].norm = norm;
      if constexpr (for_grads) {
        offset = warp_sum(offset) * norm;
        square_offset = warp_sum(square_offset) * norm;
        peak.subtract_deficit(norm * T(math::normaliser_floor), offset, square_offset);
        if (lane == 0) filters[f] = {mu, norm, reach, nearest, offset, square_offset};
      }
    }
  }

  // Evaluates the chosen filters on the pixels from (top, left) on; 0 beyond the axis.
  __device__ __forceinline__ void place(int top, int left) {
    y.first_pixel = top, y.pixel_count = tile_part(y.length, top, tile_pixels);
    x.first_pixel = left, x.pixel_count = tile_part(x.length, left, tile_pixels);
    const int a = own_column();
#pragma unroll 1
    for (int f = own_row(); f < 2 * tile_filters; f += rows_at_once) {
      const bool of_x = f >= tile_filters;
      if (f % tile_filters >= (of_x ? x.filter_count : y.filter_count)) continue;
      const T tap = weight(filters[f].centre, (of_x ? left : top) + a) * filters[f].norm;
      taps[f * stride + a] = a < (of_x ? x.pixel_count : y.pixel_count) ? tap : T(0);
    }
  }

  // Calls the function with this thread's element n of a patch [size, size], if the chosen filters
  // cover it.
  template <class Call>
  __device__ __forceinline__ void for_element(const Call& call) const {
    const int j = threadIdx.x / tile_filters, i = threadIdx.x % tile_filters;
    if (j < y.filter_count && i < x.filter_count)
      call((y.first_filter + j) * size + x.first_filter + i);
  }

  // Loads the elements of a patch that the chosen filters cover.
  template <class Value>
  __device__ __forceinline__ void load_patch(const Value& value) const {
    for_element([&](int n) { patch[threadIdx.x] = value(n); });
  }

  // Calls result(j, sum over k < depth of term(j, k)) for filters j < count, each in the threads of
  // all columns. A thread forms two sums at once, which share the factors without j.
  template <class Term, class Result>
  __device__ __forceinline__ void over_filters(int count, int depth, const Term& term,
                                               const Result& result) const {
#pragma unroll 1
    for (int j = own_row(); j < count; j += 2 * rows_at_once) {
      const int next = j + rows_at_once;
      const bool has_next = next < count;
      T sums[2];
      sums_of(depth, [&](int k, int q) { return term(q && has_next ? next : j, k); }, sums);
      result(j, sums[0]);
      if (has_next) result(next, sums[1]);
    }
  }

  // result [j, a] = sum over i of patch [j, i] F_X [i, a]
  __device__ __forceinline__ void widen_patch(T* result) const {
    const int a = own_column();
    over_filters(
        y.filter_count, x.filter_count,
        [&](int j, int i) { return patch[j * tile_filters + i] * x_taps()[i * stride + a]; },
        [&](int j, T sum) { result[j * stride + a] = sum; });
  }

  // rows [j, a] = sum over the tile's rows r of F_Y [j, r] pixels [r, a]
  __device__ __forceinline__ void filter_rows(const T* pixels) const {
    const int a = own_column();
    if (a >= x.pixel_count) return;
    over_filters(
        y.filter_count, y.pixel_count,
        [&](int j, int r) { return taps[j * stride + r] * pixels[r * stride + a]; },
        [&](int j, T sum) { rows[j * stride + a] = sum; });
  }

  // This thread's element of rows F_X^T.
  __device__ __forceinline__ T filter_columns() const {
    const int j = threadIdx.x / tile_filters, i = threadIdx.x % tile_filters;
    if (j >= y.filter_count || i >= x.filter_count) return 0;
    return sum_of<T>(x.pixel_count,
                     [&](int a) { return rows[j * stride + a] * x_taps()[i * stride + a]; });
  }

  // Calls pixel(n, at) for this thread's pixels of the tile: n in the channel, `at` in an array
  // [tile_pixels, stride].
  template <class Pixel>
  __device__ __forceinline__ void for_pixels(const Pixel& pixel) const {
    const int a = own_column();
    if (a >= x.pixel_count) return;
#pragma unroll at_once < T>
    for (int r = own_row(); r < y.pixel_count; r += rows_at_once)
      pixel((y.first_pixel + r) * x.length + x.first_pixel + a, r * stride + a);
  }

  // Adds the gradient of F_X, from the patch's gradient and the rows.
  __device__ __forceinline__ void add_x_grads(math::AxisGrads<T>& grads) const {
    const int a = own_column();
    if (a >= x.pixel_count) return;
    over_filters(
        x.filter_count, y.filter_count,
        [&](int i, int j) { return patch[j * tile_filters + i] * rows[j * stride + a]; },
        [&](int i, T grad) { add_grad(tile_filters + i, x.first_pixel, grad, grads); });
  }

  // Adds the gradient of F_Y, from the pixels and the widened patch.
  __device__ __forceinline__ void add_y_grads(const T* pixels, const T* wide,
                                              math::AxisGrads<T>& grads) const {
    const int r = own_column();
    if (r >= y.pixel_count) return;
    over_filters(
        y.filter_count, x.pixel_count,
        [&](int j, int a) { return pixels[r * stride + a] * wide[j * stride + a]; },
        [&](int j, T grad) { add_grad(j, y.first_pixel, grad, grads); });
  }

 private:
  // Adds the gradient of the tap of chosen filter f on the pixel of this thread's column.
  __device__ __forceinline__ void add_grad(int f, int first_pixel, T grad,
                                           math::AxisGrads<T>& grads) const {
    const Filter& filter = filters[f];
    const int a = own_column();
    const math::Peak<T> peak{filter.peak, filter.peak - filter.centre};
    const T weighted = grad * taps[f * stride + a], u = T(first_pixel + a + 1) - peak.pixel;
    T w;
    peak.square(u, w);
    grads.add(filter.reach, grid.sharpness, weighted, weighted * (u - filter.offset),
              weighted * (w - filter.square_offset));
  }
};

// Number i of window b, of [B, 5].
template <class F>
struct Numbers {
  InputArray window;

  __device__ __forceinline__ auto operator()(int b, int i) const {
    return F::load(window, 5 * int64_t(b) + i);
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
  static constexpr int count = tile_pixels / rows_at_once;  // a thread's pixels, in its column
  T sums[count] = {};

  // Adds K [p, p], with the elements patch(n), in the tile from (top, left) on.
  template <class Patch>
  __device__ __forceinline__ void add(Window<T>& window, int top, int left, const Patch& patch) {
    const int a = own_column(), r = own_row();
#pragma unroll 1
    for (int j = 0; j < window.size; j += tile_filters)
#pragma unroll 1
      for (int i = 0; i < window.size; i += tile_filters) {
        window.choose(j, i);
        __syncthreads();
        window.place(top, left);
        window.load_patch(patch);
        __syncthreads();
        window.widen_patch(window.rows);
        __syncthreads();
#pragma unroll 1
        for (int f = 0; f < window.y.filter_count; ++f) {
          const T row = window.rows[f * stride + a];
#pragma unroll
          for (int k = 0; k < count; ++k)
            sums[k] += window.taps[f * stride + r + k * rows_at_once] * row;
        }
      }
  }

  // Keeps the sums in shared memory, [tile_pixels, stride], each for the thread that formed it: a
  // loop over them is less code than their registers would make of it.
  __device__ __forceinline__ void keep(T* pixels) const {
#pragma unroll
    for (int k = 0; k < count; ++k)
      pixels[(own_row() + k * rows_at_once) * stride + own_column()] = sums[k];
  }
};

template <class T>
constexpr size_t pixels_bytes() {
  return shared_bytes<T>(tile_pixels * stride);
}

// The tile, and the channel b C + c, that a block of drawing_blocks() draws.
struct Tile {
  int channel, top, left;

  __device__ __forceinline__ Tile(unsigned index, const GlimpseSizes& sizes) {
    const unsigned across = unsigned(tiles(sizes.width)), down = unsigned(tiles(sizes.height));
    channel = index / (across * down);
    top = index / across % down * tile_pixels;
    left = index % across * tile_pixels;
  }
};

// Draws one tile of channel b C + c of a batch of images. number(b, i) is window b, patch(channel,
// grid, n) are the elements of K, and pixel(channel, n, drawn) receives each pixel.
template <class T, class Number, class Patch, class Pixel>
__device__ __forceinline__ void draw(SharedArrays shared, unsigned index, const Number& number,
                                     const GlimpseSizes& sizes, const Patch& patch,
                                     const Pixel& pixel) {
  const Tile tile(index, sizes);
  const int b = tile.channel / int(sizes.channels);
  Window<T> window(shared, [&](int i) { return number(b, i); }, sizes);
  Drawing<T> drawing;
  drawing.add(window, tile.top, tile.left,
              [&](int n) { return patch(tile.channel, window.grid, n); });
  T* const pixels = shared.allocate<T>(tile_pixels * stride);
  drawing.keep(pixels);
  window.for_pixels([&](int n, int at) { pixel(tile.channel, n, pixels[at]); });
}

template <class T>
size_t draw_bytes() {
  return Window<T>::bytes() + pixels_bytes<T>();
}

// Forms F_Y X F_X^T of one channel X. load(window, pixels) puts the current tile of X into shared
// memory, and result(grid, n, sum) receives the elements of the glimpse.
template <class T, class Number, class Load, class Result>
__device__ __forceinline__ void read(SharedArrays shared, const Number& number,
                                     const GlimpseSizes& sizes, const Load& load,
                                     const Result& result) {
  Window<T> window(shared, number, sizes);
  T* const pixels = shared.allocate<T>(tile_pixels * stride);
#pragma unroll 1
  for (int j = 0; j < window.size; j += tile_filters)
#pragma unroll 1
    for (int i = 0; i < window.size; i += tile_filters) {
      window.choose(j, i);
      T sum = 0;
#pragma unroll 1
      for (int r = 0; r < window.y.length; r += tile_pixels)
#pragma unroll 1
        for (int a = 0; a < window.x.length; a += tile_pixels) {
          __syncthreads();
          window.place(r, a);
          load(window, pixels);
          __syncthreads();
          window.filter_rows(pixels);
          __syncthreads();
          sum += window.filter_columns();
        }
      window.for_element([&](int n) { result(window.grid, n, sum); });
    }
}

template <class T>
size_t read_bytes() {
  return Window<T>::bytes() + pixels_bytes<T>();
}

// Forms the gradient of window b from the gradients of its glimpses, with one block per image.
// pixel(channel, n) are the pixels, patch(channel, grid, n) the elements of the gradients with all
// factors, and result(channel, grid, n, sum) receives the glimpses; `power` is the power of gamma
// among the factors. store(i, grad) receives the five numbers.
template <class T, class Number, class Store, class Pixel, class Patch, class Result>
__device__ __forceinline__ void window_grads(SharedArrays shared, int b, const Number& number,
                                             const Store& store, const GlimpseSizes& sizes,
                                             int channels, int power, const Pixel& pixel,
                                             const Patch& patch, const Result& result) {
  Window<T> window(shared, number, sizes);
  T* const pixels = shared.allocate<T>(tile_pixels * stride);
  T* const wide = shared.allocate<T>(tile_filters * stride);  // the patch's gradient times F_X
  T* const parts = shared.allocate<T>(grad_count * warps);
  math::AxisGrads<T> y_grads, x_grads;
#pragma unroll 1
  for (int j = 0; j < window.size; j += tile_filters)
#pragma unroll 1
    for (int i = 0; i < window.size; i += tile_filters) {
      __syncthreads();
      window.template choose<true>(j, i);
#pragma unroll 1
      for (int channel = b * channels; channel < (b + 1) * channels; ++channel) {
        T sum = 0;
#pragma unroll 1
        for (int r = 0; r < window.y.length; r += tile_pixels)
#pragma unroll 1
          for (int a = 0; a < window.x.length; a += tile_pixels) {
            __syncthreads();
            window.place(r, a);
            window.for_pixels([&](int n, int at) { pixels[at] = pixel(channel, n); });
            window.load_patch([&](int n) { return patch(channel, window.grid, n); });
            __syncthreads();
            window.filter_rows(pixels);
            window.widen_patch(wide);
            __syncthreads();
            sum += window.filter_columns();
            window.add_x_grads(x_grads);
            window.add_y_grads(pixels, wide, y_grads);
          }
        window.for_element([&](int n) { result(channel, window.grid, n, sum); });
      }
    }
  T sums[grad_count] = {x_grads.centre, y_grads.centre, x_grads.spacing + y_grads.spacing,
                        x_grads.log_variance + y_grads.log_variance, x_grads.grad_sum};
  block_sum(sums, parts);
  if (threadIdx.x > 0) return;
  x_grads = {sums[0], sums[2], sums[3], sums[4]};
  y_grads = {sums[1]};
  const T parameters[] = {number(0), number(1), number(2), number(3), number(4)};
  T grads[5];
  math::window_backward(x_grads, y_grads, power * x_grads.grad_sum, parameters, window.grid,
                        window.y.length, window.x.length, grads);
  for (int n = 0; n < 5; ++n) store(n, grads[n]);
}

template <class T>
size_t window_grads_bytes() {
  return read_bytes<T>() + shared_bytes<T>(tile_filters * stride) +
         shared_bytes<T>(grad_count * warps);
}

}  // namespace glimpse
}  // namespace aligndraw::cuda
