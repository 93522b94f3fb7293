#include "unroll_stages.h"

namespace aligndraw::cuda {
namespace {

using stages::threads;

// One block per item of a stage: an image, a caption, a channel of a glimpse or a tile of a canvas.
template <class T>
__global__ void __launch_bounds__(threads, glimpse::blocks_at_once<Exact<T>>)
    read_attend(ReadAttend<T> stage, UnrollSizes s) {
  stages::read_attend(SharedArrays(), stage, s, int(blockIdx.x));
}

template <class T>
__global__ void __launch_bounds__(threads, glimpse::blocks_at_once<Exact<T>>)
    last_write(ReadAttend<T> stage, UnrollSizes s) {
  stages::last_write(SharedArrays(), stage, s, int(blockIdx.x));
}

template <class T>
__global__ void __launch_bounds__(threads) infer(Infer<T> stage, int latents) {
  const int b = blockIdx.x;
  const T* const product = stage.product.data + b * stage.product.row_stride;
#pragma unroll 1
  for (int j = threadIdx.x; j < latents; j += threads)
    stages::infer(stage, latents, b, j, product[j], product[latents + j]);
}

// One block per latent of a step.
template <class T>
__global__ void __launch_bounds__(threads, 1) divergences(Forward<T> loop) {
  const UnrollSizes& s = loop.in.sizes;
  const int latents = int(s.latents), batch = int(s.batch);
  const int t = blockIdx.x / batch, b = blockIdx.x % batch;
  const int64_t row = blockIdx.x;
  const T* const prior = loop.out.head_outputs + row * s.heads() + s.prior_at();
  const T* const q = loop.out.posteriors + row * 2 * latents;
  const T* const noise = loop.in.noise + (b * s.steps + t) * latents;
  T sums[2] = {};
#pragma unroll 1
  for (int j = threadIdx.x; j < latents; j += threads) {
    const auto latent = math::latent(q[j], q[latents + j], prior[j], prior[latents + j], noise[j]);
    sums[0] += latent.kl;
    sums[1] += latent.log_ratio;
  }
  SharedArrays shared;
  block_sum(sums, shared.allocate<T>(2 * threads / warp_threads));
  if (threadIdx.x > 0) return;
  loop.out.kl[row] = sums[0];
  loop.out.log_ratio[row] = sums[1];
}

template <class T>
__global__ void __launch_bounds__(threads, glimpse::blocks_at_once<Exact<T>>)
    read_backward(ReadBackward<T> stage, UnrollSizes s) {
  stages::read_backward(SharedArrays(), stage, s, int(blockIdx.x));
}

template <class T>
__global__ void __launch_bounds__(threads, glimpse::blocks_at_once<Exact<T>>)
    write_backward(WriteBackward<T> stage, UnrollSizes s) {
  stages::write_backward(SharedArrays(), stage, s, int(blockIdx.x));
}

template <class T>
__global__ void __launch_bounds__(threads, 1)
    attention_backward(AttentionBackward<T> stage, UnrollSizes s) {
  const int b = blockIdx.x, batch = int(s.batch), latents = int(s.latents);
  if (b >= batch) return stages::caption_backward(stage, s, b - batch);
#pragma unroll 1
  for (int j = threadIdx.x; j < latents; j += threads)
    stages::latent_backward(stage, latents, int(s.prior_at()), b, j,
                            stage.grad_z.data[b * stage.grad_z.row_stride + j]);
}

}  // namespace

template <class T>
const char* launch_stage(const ReadAttend<T>& stage, const UnrollSizes& s, CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  return report(launch(read_attend<T>, row_of(stages::read_attend_blocks(s)), dim3(threads),
                       stages::read_attend_bytes<T>(), stream, false, stage, s));
}

template <class T>
const char* launch_last_write(const ReadAttend<T>& stage, const UnrollSizes& s,
                              CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  return report(launch(last_write<T>, row_of(stages::last_write_blocks(s)), dim3(threads),
                       glimpse::draw_bytes<T>(), stream, false, stage, s));
}

template <class T>
const char* launch_stage(const Infer<T>& stage, const UnrollSizes& s, CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  return report(
      launch(infer<T>, row_of(s.batch), dim3(threads), 0, stream, false, stage, int(s.latents)));
}

template <class T>
const char* launch_divergences(const Forward<T>& loop, CUstream_st* stream) {
  const UnrollSizes& s = loop.in.sizes;
  if (s.batch == 0) return nullptr;
  return report(launch(divergences<T>, row_of(s.steps * s.batch), dim3(threads),
                       shared_bytes<T>(2 * threads / warp_threads), stream, false, loop));
}

template <class T>
const char* launch_stage(const ReadBackward<T>& stage, const UnrollSizes& s, CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  return report(launch(read_backward<T>, row_of(stages::read_backward_blocks(s)), dim3(threads),
                       glimpse::window_grads_bytes<T>(), stream, false, stage, s));
}

template <class T>
const char* launch_stage(const WriteBackward<T>& stage, const UnrollSizes& s, CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  return report(launch(write_backward<T>, row_of(s.batch), dim3(threads),
                       glimpse::window_grads_bytes<T>(), stream, false, stage, s));
}

template <class T>
const char* launch_stage(const AttentionBackward<T>& stage, const UnrollSizes& s,
                         CUstream_st* stream) {
  if (s.batch == 0) return nullptr;
  return report(launch(attention_backward<T>, row_of(stage.captions.keys ? 2 * s.batch : s.batch),
                       dim3(threads), 0, stream, false, stage, s));
}

#define FOR(T)                                                                                    \
  template const char* launch_stage(const ReadAttend<T>&, const UnrollSizes&, CUstream_st*);      \
  template const char* launch_last_write(const ReadAttend<T>&, const UnrollSizes&, CUstream_st*); \
  template const char* launch_stage(const Infer<T>&, const UnrollSizes&, CUstream_st*);           \
  template const char* launch_divergences(const Forward<T>&, CUstream_st*);                       \
  template const char* launch_stage(const ReadBackward<T>&, const UnrollSizes&, CUstream_st*);    \
  template const char* launch_stage(const WriteBackward<T>&, const UnrollSizes&, CUstream_st*);   \
  template const char* launch_stage(const AttentionBackward<T>&, const UnrollSizes&, CUstream_st*);
FOR(float)
FOR(double)
#undef FOR

}  // namespace aligndraw::cuda
