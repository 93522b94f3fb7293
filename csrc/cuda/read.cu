#include "read.h"

#include "glimpse.h"

namespace aligndraw::cuda {
namespace {

// The channels of a glimpse: those of the image, and with a canvas also those of the error image,
// image - sigmoid(canvas).
template <class F, class T = typename F::Number>
struct GlimpseChannels {
  InputArray image, canvas;
  int channels, area;

  __host__ __device__ int count() const { return canvas.data ? 2 * channels : channels; }

  // Pixel n of channel `channel` = b count() + q.
  __device__ __forceinline__ T operator()(int channel, int n) const {
    if (!canvas.data) return F::load(image, int64_t(channel) * area + n);
    const int b = channel / (2 * channels), q = channel % (2 * channels);
    const int64_t m = int64_t(b * channels + q % channels) * area + n;
    const T pixel = F::load(image, m);
    return q < channels ? pixel : pixel - math::sigmoid(F::load(canvas, m));
  }
};

template <class F>
__global__ void __launch_bounds__(glimpse::threads, glimpse::blocks_at_once<F>)
    forward(GlimpseChannels<F> channels, InputArray window, OutputArray result,
            GlimpseSizes sizes) {
  using T = typename F::Number;
  const int patch_size = int(sizes.size * sizes.size);
  const int channel = blockIdx.x;
  glimpse::read<T>(
      SharedArrays(),
      [&](int i) { return glimpse::Numbers<F>{window}(channel / channels.count(), i); }, sizes,
      [&](const glimpse::Window<T>& in_place, T* pixels) {
        in_place.for_pixels([&](int n, int at) { pixels[at] = channels(channel, n); });
      },
      [&](const math::Grid<T>& grid, int n, T sum) {
        F::store(result, int64_t(channel) * patch_size + n, grid.gamma * sum);
      });
}

template <class F>
__global__ void __launch_bounds__(glimpse::threads, glimpse::blocks_at_once<F>)
    backward_window(InputArray grad, GlimpseChannels<F> channels, InputArray window,
                    OutputArray grad_window, GlimpseSizes sizes) {
  using T = typename F::Number;
  const int patch_size = int(sizes.size * sizes.size);
  const int b = blockIdx.x;
  glimpse::window_grads<T>(
      SharedArrays(), b, [&](int i) { return glimpse::Numbers<F>{window}(b, i); },
      [&](int i, T found) { F::store(grad_window, 5 * int64_t(b) + i, found); }, sizes,
      channels.count(), 1, channels,
      [&](int channel, const math::Grid<T>& grid, int n) {
        return grid.gamma * F::load(grad, int64_t(channel) * patch_size + n);
      },
      [](int, const math::Grid<T>&, int, T) {});
}

// Each pixel of the image shows in its own glimpse, and in that of the error image.
template <class F>
__global__ void __launch_bounds__(glimpse::threads, glimpse::blocks_at_once<F>)
    backward_image(InputArray grad, InputArray window, bool with_canvas, OutputArray grad_image,
                   GlimpseSizes sizes) {
  using T = typename F::Number;
  const int channels = int(sizes.channels), area = int(sizes.height * sizes.width);
  const int patch_size = int(sizes.size * sizes.size);
  glimpse::draw<T>(
      SharedArrays(), blockIdx.x, glimpse::Numbers<F>{window}, sizes,
      [&](int channel, const math::Grid<T>& grid, int n) {
        if (!with_canvas) return grid.gamma * F::load(grad, int64_t(channel) * patch_size + n);
        const int first = channel + channel / channels * channels;
        return grid.gamma * (F::load(grad, int64_t(first) * patch_size + n) +
                             F::load(grad, int64_t(first + channels) * patch_size + n));
      },
      [&](int channel, int n, T drawn) {
        F::store(grad_image, int64_t(channel) * area + n, drawn);
      });
}

template <class F>
__global__ void __launch_bounds__(glimpse::threads, glimpse::blocks_at_once<F>)
    backward_canvas(InputArray grad, InputArray window, InputArray canvas, OutputArray grad_canvas,
                    GlimpseSizes sizes) {
  using T = typename F::Number;
  const int channels = int(sizes.channels), area = int(sizes.height * sizes.width);
  const int patch_size = int(sizes.size * sizes.size);
  glimpse::draw<T>(
      SharedArrays(), blockIdx.x, glimpse::Numbers<F>{window}, sizes,
      [&](int channel, const math::Grid<T>& grid, int n) {
        const int error = channel + (channel / channels + 1) * channels;
        return grid.gamma * F::load(grad, int64_t(error) * patch_size + n);
      },
      [&](int channel, int n, T drawn) {
        const T shown = math::sigmoid(F::load(canvas, int64_t(channel) * area + n));
        F::store(grad_canvas, int64_t(channel) * area + n, drawn * shown * (shown - 1));
      });
}

}  // namespace

const char* launch_read(InputArray image, InputArray window, InputArray canvas, OutputArray glimpse,
                        const GlimpseSizes& sizes, CUstream_st* stream) {
  return with_access({image.type, window.type, canvas.type}, [&]<class F>() -> const char* {
    using T = typename F::Number;
    const GlimpseChannels<F> channels{image, canvas, int(sizes.channels),
                                      int(sizes.height * sizes.width)};
    const int64_t blocks = sizes.batch * channels.count();
    if (blocks == 0) return nullptr;
    return report(launch(forward<F>, row_of(blocks), dim3(glimpse::threads),
                         glimpse::read_bytes<T>(), stream, false, channels, window, glimpse,
                         sizes));
  });
}

const char* launch_read_backward(InputArray grad, InputArray image, InputArray window,
                                 InputArray canvas, OutputArray grad_image, OutputArray grad_window,
                                 OutputArray grad_canvas, const GlimpseSizes& sizes,
                                 CUstream_st* stream) {
  if (sizes.batch == 0) return nullptr;
  return with_access({grad.type, image.type, window.type, canvas.type}, [&]<class F>() {
    using T = typename F::Number;
    const GlimpseChannels<F> channels{image, canvas, int(sizes.channels),
                                      int(sizes.height * sizes.width)};
    const dim3 threads(glimpse::threads), blocks = glimpse::drawing_blocks(sizes);
    cudaError_t error =
        launch(backward_window<F>, row_of(sizes.batch), threads, glimpse::window_grads_bytes<T>(),
               stream, false, grad, channels, window, grad_window, sizes);
    const size_t shared = glimpse::draw_bytes<T>();
    if (error == cudaSuccess && grad_image.data && blocks.x > 0)
      error = launch(backward_image<F>, blocks, threads, shared, stream, false, grad, window,
                     canvas.data != nullptr, grad_image, sizes);
    if (error == cudaSuccess && grad_canvas.data && blocks.x > 0)
      error = launch(backward_canvas<F>, blocks, threads, shared, stream, false, grad, window,
                     canvas, grad_canvas, sizes);
    return report(error);
  });
}

}  // namespace aligndraw::cuda
