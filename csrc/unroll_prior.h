// unroll_prior in C++: its signatures, and its checks. Arguments: aligndraw/ops/unroll_prior.py.
//
//   ->  canvas [B, C, H, W], patches [T, B, C, p, p], windows [T, B, 5], weights [T, B, N]
//
// All floating tensors are float32, or all float64. Strides are free, and B may be 0.
#pragma once
#include <optional>
#include <tuple>

#include "loop.h"

namespace aligndraw {

struct UnrollPriorInputs {
  Tensor canvas, words;
  std::optional<Tensor> keys;
  Tensor lengths, noise, decoder_ih, decoder_hh, decoder_bias, decoder_h0, heads, heads_bias;
  std::optional<Tensor> score;
  int64_t write_size;
};

// The op's arguments, as parameters and as what stands in a list.
#define ALIGNDRAW_UNROLL_PRIOR_PARAMETERS                                                         \
  Tensor canvas, Tensor words, std::optional<Tensor> keys, Tensor lengths, Tensor noise,          \
      Tensor decoder_ih, Tensor decoder_hh, Tensor decoder_bias, Tensor decoder_h0, Tensor heads, \
      Tensor heads_bias, std::optional<Tensor> score, int64_t write_size
#define ALIGNDRAW_UNROLL_PRIOR_ARGUMENTS                                                        \
  canvas, words, keys, lengths, noise, decoder_ih, decoder_hh, decoder_bias, decoder_h0, heads, \
      heads_bias, score, write_size
using UnrollPriorResults = std::tuple<Tensor, Tensor, Tensor, Tensor>;

namespace cpu {
UnrollPriorResults unroll_prior(ALIGNDRAW_UNROLL_PRIOR_PARAMETERS);
}  // namespace cpu

namespace cuda {
UnrollPriorResults unroll_prior(ALIGNDRAW_UNROLL_PRIOR_PARAMETERS);
}  // namespace cuda

inline void check_unroll_prior(const UnrollPriorInputs& in) {
  const char* op = "unroll_prior";
  check_shape(op, "canvas", in.canvas, "[C, H, W]", {any, any, any});
  const int64_t channels = in.canvas.size(0);
  check_decoder(op, in, channels);
  check_sizes(op, "the drawings",
              {in.noise.size(1), in.noise.size(0),
               4 * in.decoder_h0.size(0) + in.heads.size(0) + in.words.size(1) +
                   channels * in.canvas.size(1) * in.canvas.size(2)});
  check_decoder_types(op, in, {"canvas", in.canvas});
}

}  // namespace aligndraw
