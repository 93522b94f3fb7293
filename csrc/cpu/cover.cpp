#include "cover.h"

namespace aligndraw::cpu {
namespace {

// canvas (1 - min(1, hidden)) + added, for each channel of `area` pixels
template <class T>
ALIGNDRAW_INLINE void over_loop(const T* canvas, const T* __restrict added,
                                const T* __restrict hidden, T* result, int64_t channels,
                                int64_t area) {
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t i = 0; i < area; ++i) {
      const int64_t at = c * area + i;
      result[at] = canvas[at] * (1 - std::min(hidden[i], T(1))) + added[at];
    }
}

// `grads` [channels + 1, area]: of what was drawn, given that of the result. The gradient of the
// result becomes that of the canvas.
template <class T>
ALIGNDRAW_INLINE void over_backward_loop(T* __restrict grad, const T* __restrict canvas,
                                         const T* __restrict hidden, T* __restrict grads,
                                         int64_t channels, int64_t area) {
  T* const grad_hidden = grads + channels * area;
  std::fill_n(grad_hidden, area, T(0));
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t i = 0; i < area; ++i) {
      const int64_t at = c * area + i;
      grads[at] = grad[at];
      grad_hidden[i] -= hidden[i] <= 1 ? grad[at] * canvas[at] : T(0);
      grad[at] *= 1 - std::min(hidden[i], T(1));
    }
}

ALIGNDRAW_CLONES void over(const float* canvas, const float* added, const float* hidden,
                           float* result, int64_t channels, int64_t area) {
  over_loop(canvas, added, hidden, result, channels, area);
}

void over(const double* canvas, const double* added, const double* hidden, double* result,
          int64_t channels, int64_t area) {
  over_loop(canvas, added, hidden, result, channels, area);
}

ALIGNDRAW_CLONES void over_backward(float* grad, const float* canvas, const float* hidden,
                                    float* grads, int64_t channels, int64_t area) {
  over_backward_loop(grad, canvas, hidden, grads, channels, area);
}

void over_backward(double* grad, const double* canvas, const double* hidden, double* grads,
                   int64_t channels, int64_t area) {
  over_backward_loop(grad, canvas, hidden, grads, channels, area);
}

// gamma delta^2, by which the opacity is multiplied, since `write` divides it by gamma.
template <class T>
T opacity_scale(const WriteWorkspace<T>& write, const T* window) {
  if (write.size == 1) return 0;
  const auto clamped = [](T x) { return math::clamp(x, T(math::log_limit)); };
  const T distance = T(std::max(write.height, write.width) - 1) / T(write.size - 1);
  return distance * distance * std::exp(2 * clamped(window[3]) + clamped(window[4]));
}

// Draws the patch with its scaled opacity on nothing, to `drawn`; returns the scale.
template <class T>
T draw(CoverWorkspace<T>& workspace, const T* patch, const T* window) {
  const int64_t area = workspace.write.size * workspace.write.size;
  const int64_t colours = workspace.patch_volume() - area;
  const T scale = opacity_scale(workspace.write, window);
  std::copy_n(patch, colours, workspace.patch.data());
  for (int64_t i = colours; i < colours + area; ++i) workspace.patch[i] = scale * patch[i];
  forward_row(workspace.write, workspace.patch, window, workspace.blank, workspace.drawn);
  return scale;
}

}  // namespace

template <class T>
void cover_row(CoverWorkspace<T>& workspace, const T* patch, const T* window, const T* canvas,
               T* result) {
  const int64_t channels = workspace.write.channels - 1, area = workspace.write.area;
  draw(workspace, patch, window);
  over(canvas, workspace.drawn.data(), workspace.drawn + channels * area, result, channels, area);
}

template <class T>
void cover_backward_row(CoverBackwardWorkspace<T>& workspace, T* grad, const T* patch,
                        const T* window, const T* canvas, T* grad_patch, T* grad_window) {
  auto& forward = workspace.forward;
  const int64_t channels = forward.write.channels - 1, area = forward.write.area;
  const int64_t opacities = forward.write.size * forward.write.size;
  const T scale = draw(forward, patch, window);
  over_backward(grad, canvas, forward.drawn + channels * area, workspace.grad.data(), channels,
                area);
  backward_row(workspace.write, workspace.grad, forward.patch, window, grad_patch, grad_window);
  T* const grad_opacity = grad_patch + channels * opacities;
  const T* const scaled = forward.patch + channels * opacities;
  T turn = 0;  // the gradient of the scale, times the scale
  for (int64_t i = 0; i < opacities; ++i) {
    turn += grad_opacity[i] * scaled[i];
    grad_opacity[i] *= scale;
  }
  const T limit = math::log_limit;
  grad_window[3] += math::clamp_backward(2 * turn, window[3], limit);
  grad_window[4] += math::clamp_backward(turn, window[4], limit);
}

template void cover_row(CoverWorkspace<float>&, const float*, const float*, const float*, float*);
template void cover_row(CoverWorkspace<double>&, const double*, const double*, const double*,
                        double*);
template void cover_backward_row(CoverBackwardWorkspace<float>&, float*, const float*, const float*,
                                 const float*, float*, float*);
template void cover_backward_row(CoverBackwardWorkspace<double>&, double*, const double*,
                                 const double*, const double*, double*, double*);

}  // namespace aligndraw::cpu
