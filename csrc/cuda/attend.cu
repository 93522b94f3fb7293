#include "attend.h"

#include "attention.h"
#include "launch.h"
#include "number.h"

namespace aligndraw::cuda {
namespace {

using attention::threads, attention::warps;

// One block per caption.
template <class F, class T = typename F::Number>
__global__ void __launch_bounds__(threads, 1)
    forward(AttendInputs inputs, OutputArray context, T* weights, AttendSizes sizes) {
  const int words = int(sizes.words), units = int(sizes.units), width = int(sizes.width);
  const int64_t b = blockIdx.x;
  attention::forward<T>(
      attention::clamped_length(inputs.lengths, blockIdx.x, words), words, units, width,
      [&](int j) { return F::load(inputs.query, b * units + j); },
      [&](int k, int j) { return F::load(inputs.keys, (b * words + k) * units + j); },
      [&](int j) { return F::load(inputs.score, j); },
      [&](int k, int j) { return F::load(inputs.values, (b * words + k) * width + j); },
      weights + b * words, [&](int j, T sum) { F::store(context, b * width + j, sum); });
}

// One block per caption. `score_parts` [B, l] receives each caption's part of the score's gradient;
// `grad_energies` [B, N] is workspace.
template <class F, class T = typename F::Number>
__global__ void __launch_bounds__(threads, 1)
    backward(InputArray grad_context, InputArray grad_weights, AttendInputs inputs,
             InputArray weights, AttendOutputs grads, T* grad_energies, T* score_parts,
             AttendSizes sizes) {
  const int words = int(sizes.words), units = int(sizes.units), width = int(sizes.width);
  const int64_t b = blockIdx.x;
  const int length = attention::clamped_length(inputs.lengths, blockIdx.x, words);
  const auto of_word = [&](int k) { return F::load(weights, b * words + k); };
  const auto of_context = [&](int j) { return F::load(grad_context, b * width + j); };
  attention::backward<T>(
      length, words, units, width, of_context,
      [&](int k) { return F::load(grad_weights, b * words + k); },
      [&](int j) { return F::load(inputs.query, b * units + j); },
      [&](int k, int j) { return F::load(inputs.keys, (b * words + k) * units + j); },
      [&](int j) { return F::load(inputs.score, j); },
      [&](int k, int j) { return F::load(inputs.values, (b * words + k) * width + j); }, of_word,
      grad_energies + b * words,
      [&](int k, int j, T grad) { F::store(grads.keys, (b * words + k) * units + j, grad); },
      [&](int j, T of_query, T of_score) {
        F::store(grads.query, b * units + j, of_query);
        score_parts[b * units + j] = of_score;
      });
#pragma unroll 1
  for (int k = 0; k < words; ++k)
#pragma unroll 1
    for (int j = threadIdx.x; j < width; j += threads)
      F::store(grads.values, (b * words + k) * width + j,
               k < length ? of_word(k) * of_context(j) : T(0));
}

// Sums the captions' parts: one lane per unit, and each warp takes every `warps`th caption.
template <class F, class T = typename F::Number>
__global__ void __launch_bounds__(threads, 1)
    add_scores(const T* __restrict__ score_parts, OutputArray grad_score, int64_t B,
               int64_t units) {
  SharedArrays shared;
  T* const parts = shared.allocate<T>(threads);
  const int warp = warp_index(), lane = threadIdx.x % warp_threads;
  const int64_t j = int64_t(blockIdx.x) * warp_threads + lane;
  T sum = 0;
  if (j < units)
    for (int64_t b = warp; b < B; b += warps) sum += score_parts[b * units + j];
  parts[threadIdx.x] = sum;
  __syncthreads();
  if (warp > 0 || j >= units) return;
  sum = 0;
  for (int w = 0; w < warps; ++w) sum += parts[w * warp_threads + lane];
  F::store(grad_score, j, sum);
}

}  // namespace

const char* launch_attend(const AttendInputs& inputs, OutputArray context, void* weights,
                          const AttendSizes& sizes, CUstream_st* stream) {
  if (sizes.batch == 0) return nullptr;
  return with_access(
      {inputs.query.type, inputs.keys.type, inputs.score.type, inputs.values.type}, [&]<class F>() {
        using T = typename F::Number;
        return report(launch(forward<F>, row_of(sizes.batch), dim3(threads), 0, stream, false,
                             inputs, context, static_cast<T*>(weights), sizes));
      });
}

const char* launch_attend_backward(InputArray grad_context, InputArray grad_weights,
                                   const AttendInputs& inputs, InputArray weights,
                                   const AttendOutputs& grads, void* scratch,
                                   const AttendSizes& sizes, CUstream_st* stream) {
  return with_access({grad_context.type, grad_weights.type, weights.type, inputs.query.type,
                      inputs.keys.type, inputs.score.type, inputs.values.type},
                     [&]<class F>() -> const char* {
                       using T = typename F::Number;
                       T* const grad_energies = static_cast<T*>(scratch);
                       T* const score_parts = grad_energies + sizes.batch * sizes.words;
                       cudaError_t error = cudaSuccess;
                       if (sizes.batch > 0)
                         error = launch(backward<F>, row_of(sizes.batch), dim3(threads), 0, stream,
                                        false, grad_context, grad_weights, inputs, weights, grads,
                                        grad_energies, score_parts, sizes);
                       if (error == cudaSuccess && sizes.units > 0)
                         error = launch(add_scores<F>,
                                        row_of((sizes.units + warp_threads - 1) / warp_threads),
                                        dim3(threads), shared_bytes<T>(threads), stream, false,
                                        score_parts, grads.score, sizes.batch, sizes.units);
                       return report(error);
                     });
}

}  // namespace aligndraw::cuda
