// What unroll's loops work on, as memory on any device: no torch.
#pragma once
#include "unroll_sizes.h"

namespace aligndraw {

// The arguments.
template <class T>
struct UnrollPointers {
  UnrollSizes sizes;
  const T *image, *canvas, *words, *noise, *encoder_ih, *encoder_hh, *encoder_bias, *encoder_h0,
      *posterior, *posterior_bias, *decoder_ih, *decoder_hh, *decoder_bias, *decoder_h0, *heads,
      *heads_bias, *keys = nullptr, *score = nullptr;
  const int64_t* lengths;
};

// The results and the tape, in the order of the op's: time first.
template <class Pointer>
struct UnrollTape {
  Pointer kl, log_ratio, windows, weights, encoder_in, encoder_gates, encoder_h, encoder_c,
      posteriors, decoder_in, decoder_gates, decoder_h, decoder_c, said, canvases;
};

// The gradients that a backward is given,
template <class T>
struct UnrollGiven {
  const T *canvas, *kl, *log_ratio, *windows, *weights;
};

// and those that it makes.
template <class T>
struct UnrollGradPointers {
  T *image, *canvas, *words, *keys, *noise, *encoder_ih, *encoder_hh, *encoder_bias, *encoder_h0,
      *posterior, *posterior_bias, *decoder_ih, *decoder_hh, *decoder_bias, *decoder_h0, *heads,
      *heads_bias, *score;  // image, keys and score are null where they are not wanted
};

}  // namespace aligndraw
