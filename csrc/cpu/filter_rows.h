// The filters of one axis, and their gradient, for any ISA. To be included after <isa>_simd.h.
#pragma once
#include <cmath>

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

template <class T>
ALIGNDRAW_KERNEL_INLINE void touch_all(Filters<T>& f) {
  f.first = 0, f.end = f.length;
  std::fill_n(f.firsts.data(), f.size, 0);
  std::fill_n(f.ends.data(), f.size, f.length);
}

// Where filter i is not 0, in whole vectors of pixels: [begin, end).
template <class T>
ALIGNDRAW_KERNEL_INLINE std::pair<int64_t, int64_t> touched(const Filters<T>& f, int64_t i) {
  if (f.firsts[i] >= f.ends[i]) return {0, 0};
  return {f.firsts[i] / lanes<T> * lanes<T>, whole_vectors<T>(f.ends[i])};
}

// The taps that filter i touches, not normalised.
template <class T>
ALIGNDRAW_KERNEL void make_gaussians(const Filters<T>& f, T sharpness) {
  for (int64_t i = 0; i < f.size; ++i) {
    const auto range = touched(f, i);
    T* const taps = f.taps + i * f.stride;
    const T *const pixels = f.pixels, centre = f.centres[i];
#pragma omp simd
    for (int64_t a = range.first; a < range.second; ++a)
      taps[a] = math::gaussian(pixels[a] - centre, sharpness);
  }
}

template <class T>
ALIGNDRAW_KERNEL void place(Filters<T>& f, T centre, T spacing, T sharpness) {
  const T radius = std::sqrt(underflow<T> / sharpness), length = T(f.length);
  const int64_t size = f.size, stride = f.stride;
  T *const taps = f.taps, *const centres = f.centres, *const deficits = f.deficits;
  const T* const reaches = f.reaches;
  int32_t *const firsts = f.firsts, *const ends = f.ends;
#pragma omp simd
  for (int64_t i = 0; i < padded(size); ++i) {
    const T mu = centre + reaches[i] * spacing;
    centres[i] = mu;
    // Pixel a stands at a + 1. Written so that NaN gives the whole axis.
    T first = std::floor(mu - radius) - 1, end = std::ceil(mu + radius);
    first = first > 0 ? first : T(0);
    end = end < length ? end : length;
    firsts[i] = int32_t(first < length ? first : length);
    ends[i] = int32_t(end > 0 ? end : T(0));
  }
  f.first = firsts[0];
  f.end = std::max<int64_t>(f.first, ends[size - 1]);

  std::fill_n(taps, size * stride, T(0));
  make_gaussians(f, sharpness);
  Simd<T> value;
  for (int64_t i = 0; i < size; i += lanes<T>) {
    Simd<T> sums[lanes<T>];
    const int64_t count = std::min<int64_t>(lanes<T>, size - i);
    for (int m = 0; m < lanes<T>; ++m) sums[m] = Simd<T>{};
    for (int64_t m = 0; m < count; ++m) {
      const auto [begin, end] = touched(f, i + m);
      for (int64_t a = begin; a < end; a += lanes<T>) {
        load(value, taps + (i + m) * stride + a);
        sums[m] += value;
      }
    }
    sum_lanes<T>(sums);
    const Simd<T> norm = 1 / (sums[0] + T(math::normaliser_floor));
    store(deficits + i, norm * T(math::normaliser_floor));
    T norms[lanes<T>];
    store(norms, norm);
    for (int64_t m = 0; m < count; ++m) {
      const auto [begin, end] = touched(f, i + m);
      for (int64_t a = begin; a < end; a += lanes<T>) {
        T* const tap = taps + (i + m) * stride + a;
        load(value, tap);
        store(tap, value * norms[m]);
      }
    }
  }
}

// Given the gradient of the taps, [size, grad_stride].
template <class T>
ALIGNDRAW_KERNEL math::AxisGrads<T> backward(const Filters<T>& f, const T* grad,
                                             int64_t grad_stride, T sharpness) {
  constexpr int kinds = 5;  // of sums: grad_sum, grad_first, grad_second, offset, square_offset
  const int64_t size = f.size, stride = f.stride, count = kinds * size;
  T *const peaks = f.peaks, *const peak_offsets = f.peak_offsets, *const sums = f.sums,
           *const found = f.found;
  const T *const pixels = f.pixels, *const centres = f.centres;
#pragma omp simd
  for (int64_t i = 0; i < padded(size); ++i) {
    peaks[i] = math::peak_pixel(centres[i], f.length);
    peak_offsets[i] = peaks[i] - centres[i];
  }
  for (int64_t i = 0; i < size; ++i) {
    Simd<T> grad_sum{}, grad_first{}, grad_second{}, offset{}, square_offset{}, u, tap, g, w;
    const T *const taps = f.taps + i * stride, *const of_taps = grad + i * grad_stride;
    const math::Peak<Simd<T>> peak = {peaks[i] - Simd<T>{}, peak_offsets[i] - Simd<T>{}};
    const auto [begin, end] = touched(f, i);
    for (int64_t a = begin; a < end; a += lanes<T>) {
      load(u, pixels + a);
      load(tap, taps + a);
      load(g, of_taps + a);
      u -= peak.pixel;
      peak.square(u, w);
      g *= tap;
      grad_sum += g;
      grad_first += g * u;
      grad_second += g * w;
      offset += tap * u;
      square_offset += tap * w;
    }
    const Simd<T>* of_filter[kinds] = {&grad_sum, &grad_first, &grad_second, &offset,
                                       &square_offset};
    for (int kind = 0; kind < kinds; ++kind)
      store(sums + (kind * size + i) * lanes<T>, *of_filter[kind]);
  }
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
