// The Gaussian filters of a window (Gregor et al., 2015, Eq. 19-26), in pixels numbered from 1:
//
//   mu_i = g + (i + 1/2 - p/2) delta = g + reach_i delta~        of filter i = 0 ... p-1 of an axis
//   F[i, a] = exp(-(a - mu_i)^2 / 2 sigma^2) / (sum over a of the same + 1e-4)      a tap
//
// with g_X = (W+1)/2 (g~_X + 1), g_Y = (H+1)/2 (g~_Y + 1), delta = (max(H, W) - 1)/(p - 1) delta~,
// or 0 for p = 1, and window = (g~_X, g~_Y, log sigma^2, log delta~, log gamma). T is float or
// double, and Index, of sizes and pixels, int64_t, or int on a GPU.
#pragma once
#include "scalar.h"

namespace aligndraw::math {

constexpr int centre_limit = 8, log_limit = 16;

// Lets a window that is off the image read nothing, and stay differentiable.
constexpr double normaliser_floor = 1e-4;

// Written so that NaN passes.
template <class T>
ALIGNDRAW_INLINE T clamp(T x, T limit) {
  x = x < -limit ? -limit : x;
  return x > limit ? limit : x;
}

// The gradient through a clamp, which passes at the limits themselves.
template <class T>
ALIGNDRAW_INLINE T clamp_backward(T grad, T x, T limit) {
  return x >= -limit && x <= limit ? grad : T(0);
}

template <class T>
struct Grid {
  T x, y;       // g_X and g_Y, the centre
  T spacing;    // delta~
  T sharpness;  // 1 / (2 sigma^2), of all filters of the window
  T gamma;
};

template <class T, class Index>
ALIGNDRAW_INLINE Grid<T> grid(const T* window, Index height, Index width) {
  // The library's exp: these few numbers move every filter.
  return {T(width + 1) / 2 * (clamp(window[0], T(centre_limit)) + 1),
          T(height + 1) / 2 * (clamp(window[1], T(centre_limit)) + 1),
          std::exp(clamp(window[3], T(log_limit))), std::exp(-clamp(window[2], T(log_limit))) / 2,
          std::exp(clamp(window[4], T(log_limit)))};
}

// How far filter i stands from the centre where delta~ = 1, in pixels; longest is max(H, W). Only
// the division rounds, so that a filter that belongs on a pixel stands there, even if delta is no
// float: a tiny sigma makes much of any distance.
template <class T, class Index>
ALIGNDRAW_INLINE T filter_reach(Index i, Index size, Index longest) {
  return T(2 * i + 1 - size) * T(longest - 1) / T(size > 1 ? 2 * (size - 1) : 1);
}

template <class T>
ALIGNDRAW_INLINE T gaussian(T distance, T sharpness) {
  return exp(-(distance * distance) * sharpness);
}

// The gradients of a tap F[i, a] are, with d = a - mu_i,
//
//   2 sharpness F (d - sum F d)       for mu_i
//   sharpness F (d^2 - sum F d^2)     for log sigma^2
//
// Where one pixel has nearly the whole filter both differences cancel. The sum of F is 1 - deficit,
// with deficit = 1e-4 / (sum of the Gaussian + 1e-4). So d is split into the whole number
// u = a - peak, where peak is the pixel nearest to mu_i, and peak_offset = peak - mu_i:
//
//   d - sum F d = u - (sum F u - deficit peak_offset)
//   d^2 - sum F d^2 = w - (sum F w - deficit peak_offset^2)
//
// with w = u (u + 2 peak_offset). T may be a vector of filters, so that nothing is passed by value.
template <class T>
struct Peak {
  T pixel, peak_offset;

  ALIGNDRAW_INLINE void square(const T& u, T& w) const { w = u * (u + 2 * peak_offset); }

  // Turns the sums of F u and of F w into the terms in brackets above.
  ALIGNDRAW_INLINE void subtract_deficit(const T& deficit, T& sum, T& square_sum) const {
    sum -= deficit * peak_offset;
    square_sum -= deficit * peak_offset * peak_offset;
  }
};

template <class T, class Index>
ALIGNDRAW_INLINE T peak_pixel(T centre, Index length) {
  const T nearest = std::floor(centre + T(0.5)), last = T(length);
  const T within = nearest < 1 ? T(1) : nearest;
  return within > last ? last : within;
}

// The gradients of the window's numbers from the filters F of one axis. T may be a vector of
// filters.
template <class T>
struct AxisGrads {
  T centre{}, spacing{}, log_variance{};
  T grad_sum{};  // sum of F times its gradient

  // Adds a filter's gradients, given sums over its pixels, with grad the gradient of F and d = a -
  // mu_i:
  //
  //   grad_sum_i = sum of grad F
  //   grad_first = sum of grad F (d - sum F d)
  //   grad_second = sum of grad F (d^2 - sum F d^2)
  //
  // One call may cover all pixels, or there may be one call per pixel.
  ALIGNDRAW_INLINE void add(const T& reach, const T& sharpness, const T& grad_sum_i,
                            const T& grad_first, const T& grad_second) {
    const T grad_centre = 2 * sharpness * grad_first;
    centre += grad_centre;
    spacing += reach * grad_centre;
    log_variance += sharpness * grad_second;
    grad_sum += grad_sum_i;
  }
};

template <class T, class Index>
ALIGNDRAW_INLINE void window_backward(const AxisGrads<T>& x, const AxisGrads<T>& y,
                                      T grad_log_gamma, const T* window, const Grid<T>& grid,
                                      Index height, Index width, T* grad_window) {
  const T grads[] = {T(width + 1) / 2 * x.centre, T(height + 1) / 2 * y.centre,
                     x.log_variance + y.log_variance, (x.spacing + y.spacing) * grid.spacing,
                     grad_log_gamma};
  for (int i = 0; i < 5; ++i)
    grad_window[i] = clamp_backward(grads[i], window[i], T(i < 2 ? centre_limit : log_limit));
}

}  // namespace aligndraw::math
