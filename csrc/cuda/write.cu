#include "write.h"

#include "glimpse.h"

namespace aligndraw::cuda {
namespace {

template <class F>
__global__ void __launch_bounds__(glimpse::threads, glimpse::blocks_at_once<F>)
    forward(InputArray patch, InputArray window, InputArray canvas, OutputArray result,
            GlimpseSizes sizes) {
  using T = typename F::Number;
  const int area = int(sizes.height * sizes.width), patch_size = int(sizes.size * sizes.size);
  glimpse::draw<T>(
      SharedArrays(), blockIdx.x, glimpse::Numbers<F>{window}, sizes,
      [&](int channel, const math::Grid<T>& grid, int n) {
        return F::load(patch, int64_t(channel) * patch_size + n) / grid.gamma;
      },
      [&](int channel, int n, T drawn) {
        F::store(result, int64_t(channel) * area + n,
                 F::load(canvas, int64_t(channel) * area + n) + drawn);
      });
}

// The gradient of the patch is a glimpse of the canvas' gradient.
template <class F>
__global__ void __launch_bounds__(glimpse::threads, glimpse::blocks_at_once<F>)
    backward(InputArray grad, InputArray patch, InputArray window, OutputArray grad_patch,
             OutputArray grad_window, GlimpseSizes sizes) {
  using T = typename F::Number;
  const int area = int(sizes.height * sizes.width), patch_size = int(sizes.size * sizes.size);
  const int b = blockIdx.x;
  glimpse::window_grads<T>(
      SharedArrays(), b, [&](int i) { return glimpse::Numbers<F>{window}(b, i); },
      [&](int i, T found) { F::store(grad_window, 5 * int64_t(b) + i, found); }, sizes,
      int(sizes.channels), -1,
      [&](int channel, int n) { return F::load(grad, int64_t(channel) * area + n); },
      [&](int channel, const math::Grid<T>& grid, int n) {
        return F::load(patch, int64_t(channel) * patch_size + n) / grid.gamma;
      },
      [&](int channel, const math::Grid<T>& grid, int n, T sum) {
        F::store(grad_patch, int64_t(channel) * patch_size + n, sum / grid.gamma);
      });
}

}  // namespace

const char* launch_write(InputArray patch, InputArray window, InputArray canvas, OutputArray result,
                         const GlimpseSizes& sizes, CUstream_st* stream) {
  const dim3 blocks = glimpse::drawing_blocks(sizes);
  if (blocks.x == 0) return nullptr;
  return with_access({patch.type, window.type, canvas.type}, [&]<class F>() {
    return report(launch(forward<F>, blocks, dim3(glimpse::threads),
                         glimpse::draw_bytes<typename F::Number>(), stream, false, patch, window,
                         canvas, result, sizes));
  });
}

const char* launch_write_backward(InputArray grad, InputArray patch, InputArray window,
                                  OutputArray grad_patch, OutputArray grad_window,
                                  const GlimpseSizes& sizes, CUstream_st* stream) {
  if (sizes.batch == 0) return nullptr;
  return with_access({grad.type, patch.type, window.type}, [&]<class F>() {
    return report(launch(backward<F>, row_of(sizes.batch), dim3(glimpse::threads),
                         glimpse::window_grads_bytes<typename F::Number>(), stream, false, grad,
                         patch, window, grad_patch, grad_window, sizes));
  });
}

}  // namespace aligndraw::cuda
