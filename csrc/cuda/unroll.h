// What the steps of unroll are made of between the products of matrices, on raw memory of float or
// double: see ../unroll.h for the contract. All return nullptr, or what CUDA says went wrong. Arrays
// are those of one step where nothing else is said, [B, ...].
#pragma once
#include "../unroll_sizes.h"
#include "loop.h"

namespace aligndraw::cuda {

// What each word adds to the decoder's gates [B, N, 4n] takes the place of the words' own: the
// context is a sum of words, and the product of a sum is the sum of the products.
template <class T>
struct Captions {
  const T *words, *keys, *score, *pushes;  // keys and score are null without attention
  const int64_t* lengths;
};

// The beginning of a step: what h_dec says is finished, the canvas drawn on and looked at, and the
// caption read.
template <class T>
struct Look {
  Rows<const T> spoken;  // the heads' products with h_dec
  const T *heads_bias, *decoder_h;
  Captions<T> captions;
  const T* image;
  Rows<const T> before;                    // the canvas before this step's write
  bool draws;                              // there is such a write: not at the first step
  T *said, *canvas, *windows, *encoder_in; // windows are those of the write
  T* weights;
  Rows<T> context;
  T* push;  // [B, 4n]
};
template <class T>
const char* launch_look(const Look<T>& step, const UnrollSizes& sizes, CUstream_st* stream);

// After the last step: what h_dec says, and the last write.
template <class T>
const char* launch_last_write(const Look<T>& step, const UnrollSizes& sizes, CUstream_st* stream);

// The latent, from the product that is the posterior without its bias.
template <class T>
struct Infer {
  Rows<const T> product;
  const T* bias;
  Rows<const T> prior, noise;
  T* posteriors;
  Rows<T> z;
  T *kl, *log_ratio;
};
template <class T>
const char* launch_infer(const Infer<T>& step, const UnrollSizes& sizes, CUstream_st* stream);

// Back through the read. The canvas' gradient is added to, and the image's where there is room for it.
template <class T>
struct LookBackward {
  const T *image, *canvas;
  Rows<const T> window;
  const T* grad_glimpse;
  T *grad_canvas, *grad_image;
  Rows<T> grad_window;
};
template <class T>
const char* launch_look_backward(const LookBackward<T>& step, const UnrollSizes& sizes,
                                 CUstream_st* stream);

// Back through the write.
template <class T>
struct DrawBackward {
  const T *grad_canvas, *grad_windows;  // of the results
  Rows<const T> patch, window;
  Rows<T> grad_patch, grad_window;
};
template <class T>
const char* launch_draw_backward(const DrawBackward<T>& step, const UnrollSizes& sizes,
                                 CUstream_st* stream);

// Back through the attention and the latent, which do not depend on each other. The gradients of the
// keys and of the score, by captions, are added to; `energies` is room for B N numbers.
template <class T>
struct RecallBackward {
  Captions<T> captions;
  Rows<const T> said;  // before the step
  const T *weights, *grad_weights;
  Rows<const T> grad_push, grad_z;
  const T *grad_kl, *grad_log_ratio, *posteriors;
  Rows<const T> noise;
  T *energies, *grad_keys, *grad_score;
  Rows<T> grad_said, grad_posteriors, grad_noise;
  bool prior_is_said;  // not that of the first step
};
template <class T>
const char* launch_recall_backward(const RecallBackward<T>& step, const UnrollSizes& sizes,
                                   CUstream_st* stream);

}  // namespace aligndraw::cuda
