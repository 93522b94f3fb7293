// The Gaussian filters of a window (Gregor et al., 2015, Eq. 19-26), in pixels numbered from 1:
//
//   filter i of an axis, i = 0 ... p-1, stands at mu_i = g + (i + 1/2 - p/2) delta
//   F[i, a] = exp(-(a - mu_i)^2 / 2 sigma^2) / (sum over a of the same + 1e-4)
//
// with g_X = (W+1)/2 (g~_X + 1), g_Y = (H+1)/2 (g~_Y + 1), delta = (max(H, W) - 1)/(p - 1) delta~,
// or 0 for p = 1, and window = (g~_X, g~_Y, log sigma^2, log delta~, log gamma). T is float or
// double.
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
  T spacing;    // delta
  T sharpness;  // 1 / 2 sigma^2
  T gamma;
};

template <class T>
ALIGNDRAW_INLINE Grid<T> grid(const T* window, int64_t size, int64_t height, int64_t width) {
  const int64_t longest = height > width ? height : width;
  const T widest = size > 1 ? T(longest - 1) / T(size - 1) : T(0);
  // The library's exp: these few numbers move every filter.
  return {T(width + 1) / 2 * (clamp(window[0], T(centre_limit)) + 1),
          T(height + 1) / 2 * (clamp(window[1], T(centre_limit)) + 1),
          std::exp(clamp(window[3], T(log_limit))) * widest,
          1 / (2 * std::exp(clamp(window[2], T(log_limit)))),
          std::exp(clamp(window[4], T(log_limit)))};
}

// How many spacings filter i stands from the centre.
template <class T>
ALIGNDRAW_INLINE T filter_step(int64_t i, int64_t size) {
  return T(i) + (T(0.5) - T(size) / 2);
}

template <class T>
ALIGNDRAW_INLINE T gaussian(T distance, T sharpness) {
  return exp(-(distance * distance) * sharpness);
}

// What the gradients of the filters F of one axis come to.
template <class T>
struct AxisGrads {
  T centre = 0, spacing = 0, log_variance = 0;
  T along = 0;  // sum of F times its gradient

  // Takes filter i in, given the sums over its pixels, with grad that of F and d = a - mu_i, of
  //   along = grad F,   pull = (grad - along) F d,   spread = (grad - along) F d^2,
  // all at once or pixel by pixel.
  ALIGNDRAW_INLINE void add(int64_t i, int64_t size, T sharpness, T along_i, T pull, T spread) {
    const T grad_centre = 2 * sharpness * pull;
    centre += grad_centre;
    spacing += filter_step<T>(i, size) * grad_centre;
    log_variance += sharpness * spread;
    along += along_i;
  }
};

template <class T>
ALIGNDRAW_INLINE void window_backward(const AxisGrads<T>& x, const AxisGrads<T>& y,
                                      T grad_log_gamma, const T* window, const Grid<T>& grid,
                                      int64_t height, int64_t width, T* grad_window) {
  const T grads[] = {T(width + 1) / 2 * x.centre, T(height + 1) / 2 * y.centre,
                     x.log_variance + y.log_variance, (x.spacing + y.spacing) * grid.spacing,
                     grad_log_gamma};
  for (int i = 0; i < 5; ++i)
    grad_window[i] = clamp_backward(grads[i], window[i], T(i < 2 ? centre_limit : log_limit));
}

}  // namespace aligndraw::math
