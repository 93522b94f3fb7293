// The filters of one axis, and their gradient, for any ISA. To be included after <isa>_simd.h.
#pragma once
#include <cmath>
#include <initializer_list>

#include "glimpse.h"
#include "product_tile.h"

namespace aligndraw::cpu {
namespace {

template <class T>
ALIGNDRAW_KERNEL_INLINE int64_t whole_vectors(int64_t n) {
  return (n + lanes<T> - 1) / lanes<T> * lanes<T>;
}

// math::gaussian is 0 where the exponent is below minus this.
template <class T>
constexpr T underflow = sizeof(T) == sizeof(float) ? T(87.5) : T(750);

// Taps below e^-negligible of their filter's largest one on the image count as 0: they are less
// than a thousandth of what rounding changes in that one.
template <class T>
constexpr T negligible = sizeof(T) == sizeof(float) ? T(25) : T(45);

template <class T>
ALIGNDRAW_KERNEL_INLINE void touch_all(Filters<T>& f) {
  f.first = 0, f.end = f.length;
  std::fill_n(f.firsts, f.size, 0);
  std::fill_n(f.ends, f.size, f.length);
}

template <class T>
ALIGNDRAW_KERNEL_INLINE PixelRange in_whole_vectors(int64_t begin, int64_t end) {
  if (begin >= end) return {0, 0};
  return {begin / lanes<T> * lanes<T>, whole_vectors<T>(end)};
}

// The taps of all filters in a range of pixels, not normalised. One range for all filters: of as
// many vectors each, which the processor foresees.
template <class T>
ALIGNDRAW_KERNEL void make_gaussians(const Filters<T>& f, T sharpness, PixelRange range) {
  for (int64_t i = 0; i < f.size; ++i) {
    T* const taps = f.taps + i * f.stride;
    const T *const pixels = f.pixels, centre = f.centres[i];
#pragma omp simd
    for (int64_t a = range.begin; a < range.end; ++a)
      taps[a] = math::gaussian(pixels[a] - centre, sharpness);
  }
}

// Divides the taps, which are 0 outside a range of pixels, by the sums of their filters.
template <class T>
ALIGNDRAW_KERNEL void normalise(const Filters<T>& f, PixelRange range) {
  Simd<T> value;
  for (int64_t i = 0; i < f.size; i += lanes<T>) {
    Simd<T> sums[lanes<T>];
    const int64_t count = std::min<int64_t>(lanes<T>, f.size - i);
    T* const taps = f.taps + i * f.stride;
    for (int m = 0; m < lanes<T>; ++m) sums[m] = Simd<T>{};
    for (int64_t m = 0; m < count; ++m)
      for (int64_t a = range.begin; a < range.end; a += lanes<T>) {
        load(value, taps + m * f.stride + a);
        sums[m] += value;
      }
    sum_lanes<T>(sums);
    const Simd<T> norm = 1 / (sums[0] + T(math::normaliser_floor));
    store(f.deficits + i, norm * T(math::normaliser_floor));
    T norms[lanes<T>];
    store(norms, norm);
    for (int64_t m = 0; m < count; ++m)
      for (int64_t a = range.begin; a < range.end; a += lanes<T>) {
        T* const tap = taps + m * f.stride + a;
        load(value, tap);
        store(tap, value * norms[m]);
      }
  }
}

template <class T>
ALIGNDRAW_KERNEL void place(Filters<T>& f, T centre, T spacing, T sharpness) {
  const T radius = std::sqrt(underflow<T> / sharpness), length = T(f.length);
  const T beyond_nearest = negligible<T> / sharpness;
  const int64_t size = f.size;
  T *const centres = f.centres, *const peaks = f.peaks, *const peak_offsets = f.peak_offsets;
  const T* const reaches = f.reaches;
  int32_t *const firsts = f.firsts, *const ends = f.ends;
#pragma omp simd
  for (int64_t i = 0; i < padded(size); ++i) {
    const T mu = centre + reaches[i] * spacing, peak = math::peak_pixel(mu, f.length),
            offset = peak - mu;
    const T most = std::sqrt(offset * offset + beyond_nearest),
            within = most < radius ? most : radius;
    centres[i] = mu, peaks[i] = peak, peak_offsets[i] = offset;
    // Pixel a stands at a + 1. Written so that NaN gives the whole axis.
    T first = std::floor(mu - within) - 1, end = std::ceil(mu + within);
    first = first > 0 ? first : T(0);
    end = end < length ? end : length;
    firsts[i] = int32_t(first < length ? first : length);
    ends[i] = int32_t(end > 0 ? end : T(0));
  }
  // Rounding may have put them out of order.
  int32_t first = firsts[size - 1], end = ends[0];
  for (int64_t i = 0; i < size; ++i) {
    ends[i] = end = std::max(end, ends[i]);
    firsts[size - 1 - i] = first = std::min(first, firsts[size - 1 - i]);
  }
  f.first = first;
  f.end = std::max(first, end);

  const PixelRange box = in_whole_vectors<T>(f.first, f.end);
  if (box.end - box.begin < f.stride) std::fill_n(f.taps, size * f.stride, T(0));
  make_gaussians(f, sharpness, box);
  normalise(f, box);
}

// The sums of a filter over its pixels: of g F, g F u, g F w, F u and F w, with F a tap, g its
// gradient, and u and w those of math::Peak. Filters::sums has a vector of each, kind by kind.
constexpr int filter_sums = 5;

template <class T>
ALIGNDRAW_KERNEL_INLINE void put_sums(const Filters<T>& f, int64_t i, int first_kind,
                                      std::initializer_list<Simd<T>> sums) {
  T* to = f.sums + (first_kind * f.size + i) * lanes<T>;
  for (const Simd<T>& sum : sums) {
    store(to, sum);
    to += f.size * lanes<T>;
  }
}

// All sums, given the gradient of the taps, [size, stride], in some whole vectors of pixels.
template <class T>
ALIGNDRAW_KERNEL void sums_of_gradient(const Filters<T>& f, const T* grad, PixelRange range) {
  for (int64_t i = 0; i < f.size; ++i) {
    Simd<T> grad_sum{}, grad_first{}, grad_second{}, offset{}, square_offset{}, u, tap, g, w;
    const math::Peak<Simd<T>> peak = {f.peaks[i] - Simd<T>{}, f.peak_offsets[i] - Simd<T>{}};
    for (int64_t a = range.begin; a < range.end; a += lanes<T>) {
      load(u, f.pixels + a);
      load(tap, f.taps + i * f.stride + a);
      load(g, grad + i * f.stride + a);
      u -= peak.pixel;
      peak.square(u, w);
      g *= tap;
      grad_sum += g;
      grad_first += g * u;
      grad_second += g * w;
      offset += tap * u;
      square_offset += tap * w;
    }
    put_sums<T>(f, i, 0, {grad_sum, grad_first, grad_second, offset, square_offset});
  }
}

// weights [size, 3, stride] = F, F u and F w in some whole vectors of pixels; and the last two
// sums.
template <class T>
ALIGNDRAW_KERNEL void weigh_taps(const Filters<T>& f, PixelRange range, T* weights) {
  for (int64_t i = 0; i < f.size; ++i, weights += 3 * f.stride) {
    Simd<T> offset{}, square_offset{}, u, tap, w;
    const math::Peak<Simd<T>> peak = {f.peaks[i] - Simd<T>{}, f.peak_offsets[i] - Simd<T>{}};
    for (int64_t a = range.begin; a < range.end; a += lanes<T>) {
      load(u, f.pixels + a);
      load(tap, f.taps + i * f.stride + a);
      u -= peak.pixel;
      peak.square(u, w);
      u *= tap, w *= tap;
      offset += u;
      square_offset += w;
      store(weights + a, tap);
      store(weights + f.stride + a, u);
      store(weights + 2 * f.stride + a, w);
    }
    put_sums<T>(f, i, 3, {offset, square_offset});
  }
}

// The gradients of the window's numbers, given the sums.
template <class T>
ALIGNDRAW_KERNEL math::AxisGrads<T> axis_grads(const Filters<T>& f, T sharpness) {
  const int64_t size = f.size, count = filter_sums * size;
  const T *const peak_offsets = f.peak_offsets, *const sums = f.sums;
  T* const found = f.found;
  Simd<T> some[lanes<T>];
  for (int64_t n = 0; n < count; n += lanes<T>) {
    for (int m = 0; m < lanes<T>; ++m) load(some[m], sums + (n + m) * lanes<T>);
    sum_lanes<T>(some);
    store(found + n, some[0]);
  }
  math::AxisGrads<Simd<T>> grads;
  const auto add = [&](int64_t i, const auto& access) ALIGNDRAW_KERNEL_LAMBDA {
    Simd<T> grad_sum, grad_first, grad_second, offset, square_offset, deficit, reach;
    math::Peak<Simd<T>> peak;
    access.load(grad_sum, found + i);
    access.load(grad_first, found + size + i);
    access.load(grad_second, found + 2 * size + i);
    access.load(offset, found + 3 * size + i);
    access.load(square_offset, found + 4 * size + i);
    access.load(peak.peak_offset, peak_offsets + i);
    access.load(deficit, f.deficits + i);
    access.load(reach, f.reaches + i);
    peak.subtract_deficit(deficit, offset, square_offset);
    grad_first -= grad_sum * offset;
    grad_second -= grad_sum * square_offset;
    grads.add(reach, sharpness - Simd<T>{}, grad_sum, grad_first, grad_second);
  };
  int64_t i = 0;
  for (; i + lanes<T> <= size; i += lanes<T>) add(i, WholeVector<T>());
  if (i < size) add(i, PartialVector<T>(size - i));
  Simd<T> all[lanes<T> < 4 ? 4 : lanes<T>] = {grads.centre, grads.spacing, grads.log_variance,
                                              grads.grad_sum};
  for (int m = 0; m < 4; m += lanes<T>) sum_lanes<T>(all + m);
  return {all[0][0], all[1 / lanes<T> * lanes<T>][1 % lanes<T>],
          all[2 / lanes<T> * lanes<T>][2 % lanes<T>], all[3 / lanes<T> * lanes<T>][3 % lanes<T>]};
}

}  // namespace
}  // namespace aligndraw::cpu
