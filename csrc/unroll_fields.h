// Every array of unroll and unroll_prior, named once, with its shape. The same lists, in the same
// order, stand in aligndraw/ops: _unroll_fields.py, _decoder.py and unroll_prior.py. No torch.
//
// A list calls the macro that it is given for each of its fields:
//
//   FIELD(name, size, size, ...)     float32 or float64
//   OPTIONAL(name, size, ...)        an array that is there with attention only
//   LENGTHS(name, size)              int64
//
// A size is made of the letters that ALIGNDRAW_UNROLL_LETTERS defines.
#pragma once
#include "unroll_sizes.h"

#define ALIGNDRAW_UNROLL_LETTERS(s)                                                              \
  [[maybe_unused]] const int64_t B = (s).batch, C = (s).channels, H = (s).height, W = (s).width, \
                                 T = (s).steps, N = (s).words, A = (s).attends ? (s).words : 0,  \
                                 d = (s).word_size, l = (s).units, z = (s).latents,              \
                                 e = (s).encoder, n = (s).decoder, p = (s).write_size,           \
                                 Q = (s).patch_channels(), G = (s).glimpse(), R = (s).heads()

// ---- arguments ----

#define ALIGNDRAW_ENCODER_WEIGHTS(FIELD)                              \
  FIELD(encoder_ih, 4 * e, G + n) /* of the glimpse, then of h_dec */ \
  FIELD(encoder_hh, 4 * e, e)                                         \
  FIELD(encoder_bias, 4 * e)                                          \
  FIELD(encoder_h0, e)                                                \
  FIELD(posterior, 2 * z, e) /* mu, then log sigma */                 \
  FIELD(posterior_bias, 2 * z)

#define ALIGNDRAW_DECODER_WEIGHTS(FIELD, OPTIONAL)                         \
  FIELD(decoder_ih, 4 * n, z + d) /* of the latent, then of the context */ \
  FIELD(decoder_hh, 4 * n, n)                                              \
  FIELD(decoder_bias, 4 * n)                                               \
  FIELD(decoder_h0, n)                                                     \
  FIELD(heads, R, n) /* UnrollSizes has their rows */                      \
  FIELD(heads_bias, R)                                                     \
  OPTIONAL(score, l)

#define ALIGNDRAW_UNROLL_INPUTS(FIELD, OPTIONAL, LENGTHS) \
  FIELD(image, B, C, H, W)                                \
  FIELD(canvas, C, H, W) /* c_0 */                        \
  FIELD(words, B, N, d)                                   \
  OPTIONAL(keys, B, N, l)                                 \
  LENGTHS(lengths, B)                                     \
  FIELD(noise, B, T, z)                                   \
  ALIGNDRAW_ENCODER_WEIGHTS(FIELD)                        \
  ALIGNDRAW_DECODER_WEIGHTS(FIELD, OPTIONAL)

#define ALIGNDRAW_UNROLL_PRIOR_INPUTS(FIELD, OPTIONAL, LENGTHS) \
  FIELD(canvas, C, H, W) /* c_0 */                              \
  FIELD(words, B, N, d)                                         \
  OPTIONAL(keys, B, N, l)                                       \
  LENGTHS(lengths, B)                                           \
  FIELD(noise, B, T, z)                                         \
  ALIGNDRAW_DECODER_WEIGHTS(FIELD, OPTIONAL)

// ---- results ----

#define ALIGNDRAW_UNROLL_RESULTS(FIELD)                   \
  FIELD(canvas, B, C, H, W) /* c_T, before the sigmoid */ \
  FIELD(kl, T, B)                                         \
  FIELD(log_ratio, T, B)                                  \
  FIELD(windows, T, B, 5) /* of the writes */             \
  FIELD(weights, T, B, A) /* alpha */

#define ALIGNDRAW_UNROLL_PRIOR_RESULTS(FIELD)             \
  FIELD(canvas, B, C, H, W) /* c_T, before the sigmoid */ \
  FIELD(patches, T, B, Q, p, p)                           \
  FIELD(windows, T, B, 5)                                 \
  FIELD(weights, T, B, A) /* alpha */

// For the backward, which would else calculate them again. It also gets the weights.
#define ALIGNDRAW_UNROLL_TAPE(FIELD)                                             \
  FIELD(encoder_in, T, B, G + n) /* glimpse, and h_dec before the step */        \
  FIELD(encoder_gates, T, B, 4 * e)                                              \
  FIELD(encoder_h, T + 1, B, e)                                                  \
  FIELD(encoder_c, T + 1, B, e)                                                  \
  FIELD(posteriors, T, B, 2 * z)                                                 \
  FIELD(decoder_in, T, B, z + d) /* latent and context */                        \
  FIELD(decoder_gates, T, B, 4 * n)                                              \
  FIELD(decoder_h, T + 1, B, n)                                                  \
  FIELD(decoder_c, T + 1, B, n)                                                  \
  FIELD(head_outputs, T + 1, B, R) /* prior after tanh, opacity after sigmoid */ \
  FIELD(canvases, T, B, C, H, W)   /* c_0 ... c_{T-1} */

// The gradients that the backward makes: of all inputs but the lengths.
#define ALIGNDRAW_UNROLL_GRADS(FIELD, OPTIONAL) \
  ALIGNDRAW_UNROLL_INPUTS(FIELD, OPTIONAL, ALIGNDRAW_NO_FIELD)

// Uses of a list that several headers make.
#define ALIGNDRAW_NO_FIELD(name, ...)
#define ALIGNDRAW_PARAMETER(name, ...) Tensor name,
#define ALIGNDRAW_OPTIONAL_PARAMETER(name, ...) std::optional<Tensor> name,
#define ALIGNDRAW_GRAD_PARAMETER(name, ...) Tensor grad_##name,
#define ALIGNDRAW_TENSOR(name, ...) Tensor name;
#define ALIGNDRAW_OPTIONAL_TENSOR(name, ...) std::optional<Tensor> name;
#define ALIGNDRAW_INITIALISER(name, ...) .name = name,
#define ALIGNDRAW_COUNT(name, ...) +1
