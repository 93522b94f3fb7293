#include "unroll_stages.h"

namespace aligndraw::cuda {
namespace {

using stages::threads;

// A block a thing, of each stage.
template <class T>
__global__ void __launch_bounds__(threads, 1) look(Look<T> step, UnrollSizes s) {
  stages::look(SharedArrays(), step, s, blockIdx.x);
}

template <class T>
__global__ void __launch_bounds__(threads, glimpse::blocks_at_once<Exact<T>>)
    last_write(Look<T> step, UnrollSizes s) {
  stages::last_write(SharedArrays(), step, s, blockIdx.x);
}

template <class T>
__global__ void __launch_bounds__(threads) infer(Infer<T> step, int64_t latents) {
  const int64_t b = blockIdx.x;
  const T* const product = step.product.data + b * step.product.pitch;
  for (int64_t j = threadIdx.x; j < latents; j += threads)
    stages::infer(step, latents, b, j, product[j], product[latents + j]);
}

// A block a latent of a step.
template <class T>
__global__ void __launch_bounds__(threads, 1) divergences(Forward<T> loop) {
  const UnrollSizes& s = loop.in.sizes;
  const int64_t row = blockIdx.x, t = row / s.batch, b = row % s.batch, latents = s.latents;
  const T* const prior = loop.out.said + row * s.heads() + s.prior_at();
  const T* const q = loop.out.posteriors + row * 2 * latents;
  const T* const noise = loop.in.noise + (b * s.steps + t) * latents;
  T sums[2] = {};
  for (int64_t j = threadIdx.x; j < latents; j += threads) {
    const auto latent = math::latent(q[j], q[latents + j], prior[j], prior[latents + j], noise[j]);
    sums[0] += latent.kl;
    sums[1] += latent.log_ratio;
  }
  SharedArrays shared;
  block_sum(sums, shared.take<T>(2 * threads / warp_threads));
  if (threadIdx.x > 0) return;
  loop.out.kl[row] = sums[0];
  loop.out.log_ratio[row] = sums[1];
}

template <class T>
__global__ void __launch_bounds__(threads, glimpse::blocks_at_once<Exact<T>>)
    look_backward(LookBackward<T> step, UnrollSizes s) {
  stages::look_backward(SharedArrays(), step, s, blockIdx.x);
}

template <class T>
__global__ void __launch_bounds__(threads, 1) draw_backward(DrawBackward<T> step, UnrollSizes s) {
  stages::draw_backward(SharedArrays(), step, s, blockIdx.x);
}

template <class T>
__global__ void __launch_bounds__(threads, 1)
    recall_backward(RecallBackward<T> step, UnrollSizes s) {
  if (blockIdx.x >= s.batch) return stages::caption_backward(step, s, blockIdx.x - s.batch);
  const int64_t b = blockIdx.x;
  for (int64_t j = threadIdx.x; j < s.latents; j += threads)
    stages::latent_backward(step, s.latents, s.prior_at(), b, j,
                            step.grad_z.data[b * step.grad_z.pitch + j]);
}

}  // namespace

template <class T>
const char* launch_look(const Look<T>& step, const UnrollSizes& s, CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  return report(launch(look<T>, row_of(stages::looks(s)), dim3(threads), stages::looking_bytes<T>(),
                       stream, false, step, s));
}

template <class T>
const char* launch_last_write(const Look<T>& step, const UnrollSizes& s, CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  return report(launch(last_write<T>, row_of(stages::last_writes(s)), dim3(threads),
                       glimpse::Window<T>::bytes(), stream, false, step, s));
}

template <class T>
const char* launch_infer(const Infer<T>& step, const UnrollSizes& s, CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  return report(
      launch(infer<T>, row_of(s.batch), dim3(threads), 0, stream, false, step, s.latents));
}

template <class T>
const char* launch_divergences(const Forward<T>& loop, CUstream_st* stream) {
  const UnrollSizes& s = loop.in.sizes;
  if (s.batch == 0) return nullptr;
  return report(launch(divergences<T>, row_of(s.steps * s.batch), dim3(threads),
                       shared_bytes<T>(2 * threads / warp_threads), stream, false, loop));
}

template <class T>
const char* launch_look_backward(const LookBackward<T>& step, const UnrollSizes& s,
                                 CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  return report(launch(look_backward<T>, row_of(stages::looks_backward(s)), dim3(threads),
                       glimpse::window_grads_bytes<T>(), stream, false, step, s));
}

template <class T>
const char* launch_draw_backward(const DrawBackward<T>& step, const UnrollSizes& s,
                                 CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  return report(launch(draw_backward<T>, row_of(s.batch), dim3(threads),
                       glimpse::window_grads_bytes<T>(), stream, false, step, s));
}

template <class T>
const char* launch_recall_backward(const RecallBackward<T>& step, const UnrollSizes& s,
                                   CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  return report(launch(recall_backward<T>, row_of(step.captions.keys ? 2 * s.batch : s.batch),
                       dim3(threads), 0, stream, false, step, s));
}

#define FOR(T)                                                                              \
  template const char* launch_look(const Look<T>&, const UnrollSizes&, CUstream_st*);       \
  template const char* launch_last_write(const Look<T>&, const UnrollSizes&, CUstream_st*); \
  template const char* launch_infer(const Infer<T>&, const UnrollSizes&, CUstream_st*);     \
  template const char* launch_divergences(const Forward<T>&, CUstream_st*);                 \
  template const char* launch_look_backward(const LookBackward<T>&, const UnrollSizes&,     \
                                            CUstream_st*);                                  \
  template const char* launch_draw_backward(const DrawBackward<T>&, const UnrollSizes&,     \
                                            CUstream_st*);                                  \
  template const char* launch_recall_backward(const RecallBackward<T>&, const UnrollSizes&, \
                                              CUstream_st*);
FOR(float)
FOR(double)
#undef FOR

}  // namespace aligndraw::cuda
