// What the steps of unroll are made of between the products of matrices, and the whole of it in one
// launch each way, on raw memory of float or double: see ../unroll.h for the contract. Functions
// that launch return nullptr, or what CUDA says went wrong. Arrays are those of one step where
// nothing else is said, [B, ...].
#pragma once
#include "../unroll_pointers.h"
#include "fit.h"
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
  Rows<const T> before;                     // the canvas before this step's write
  bool draws;                               // there is such a write: not at the first step
  T *said, *canvas, *windows, *encoder_in;  // windows are those of the write
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
};
template <class T>
const char* launch_infer(const Infer<T>& step, const UnrollSizes& sizes, CUstream_st* stream);

// Back through the read. The canvas' gradient is added to, and the image's where there is room for
// it.
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

// Back through the attention and the latent, which do not depend on each other. The gradients of
// the keys and of the score, by captions, are added to; `energies` is room for B N numbers.
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

// A whole forward: both forms take the parts of its steps from here.
template <class T>
struct Forward {
  UnrollPointers<T> in;
  UnrollTape<T*> out;
  const T* pushes;
  T* last;         // the canvas after the last step
  Rows<T> spoken;  // the heads' products with h_dec
  T* push;         // what the caption adds to the decoder's gates

  // Also after the last step, with t = T.
  ALIGNDRAW_INLINE Look<T> look(int64_t t) const {
    const UnrollSizes& s = in.sizes;
    const int64_t B = s.batch, row = t * B, volume = s.volume();
    Look<T> look{};
    look.spoken = {spoken.data, spoken.pitch};
    look.heads_bias = in.heads_bias;
    look.image = in.image;
    look.before =
        t ? Rows<const T>{out.canvases + (row - B) * volume, volume} : Rows<const T>{in.canvas, 0};
    look.draws = t > 0;
    look.said = out.said + row * s.heads();
    look.canvas = t < s.steps ? out.canvases + row * volume : last;
    look.windows = t ? out.windows + (row - B) * 5 : nullptr;
    if (t == s.steps) return look;
    look.decoder_h = out.decoder_h + row * s.decoder;
    look.captions = {in.words, in.keys, in.score, pushes, in.lengths};
    look.encoder_in = out.encoder_in + row * s.encoder_in();
    look.weights = out.weights + row * s.words;
    look.context = {out.decoder_in + row * s.decoder_in() + s.latents, s.decoder_in()};
    look.push = push;
    return look;
  }

  // Without the products with the glimpse, h_dec and h_enc.
  ALIGNDRAW_INLINE LstmStep<T> encode(int64_t t) const {
    const int64_t B = in.sizes.batch, row = t * B, e = in.sizes.encoder;
    return {{},
            in.encoder_bias,
            out.encoder_c + row * e,
            out.encoder_gates + row * 4 * e,
            out.encoder_h + (row + B) * e,
            out.encoder_c + (row + B) * e};
  }

  ALIGNDRAW_INLINE Infer<T> infer(int64_t t, Rows<const T> product) const {
    const UnrollSizes& s = in.sizes;
    const int64_t row = t * s.batch;
    return {product,
            in.posterior_bias,
            {out.said + row * s.heads() + s.prior_at(), s.heads()},
            {in.noise + t * s.latents, s.steps * s.latents},
            out.posteriors + row * 2 * s.latents,
            {out.decoder_in + row * s.decoder_in(), s.decoder_in()}};
  }

  // Without the products with z and h_dec.
  ALIGNDRAW_INLINE LstmStep<T> decode(int64_t t) const {
    const int64_t B = in.sizes.batch, row = t * B, n = in.sizes.decoder;
    return {{{in.keys ? push : pushes, 4 * n}, {}, {}},
            in.decoder_bias,
            out.decoder_c + row * n,
            out.decoder_gates + row * 4 * n,
            out.decoder_h + (row + B) * n,
            out.decoder_c + (row + B) * n};
  }
};

// After the loop: the KLs and log ratios of all steps.
template <class T>
const char* launch_divergences(const Forward<T>& loop, CUstream_st* stream);

// A whole backward, likewise.
template <class T>
struct Backward {
  UnrollPointers<T> in;
  UnrollTape<const T*> tape;
  UnrollGiven<T> given;
  UnrollGradPointers<T> out;
  const T* pushes;
  // The gradients of all that comes of each state, [T + 1, B, columns]: of h_dec heads and the
  // gates of both LSTMs, of h_enc posterior and gates.
  T *of_decoder, *of_encoder;
  T *h_dec, *c_dec, *h_enc, *c_enc, *canvas, *glimpse;
  T *score, *energies;  // by captions

  ALIGNDRAW_INLINE int64_t decoder_columns() const {
    return in.sizes.heads() + 4 * in.sizes.encoder + 4 * in.sizes.decoder;
  }
  ALIGNDRAW_INLINE int64_t encoder_columns() const {
    return 2 * in.sizes.latents + 4 * in.sizes.encoder;
  }
  // Of h_dec and of h_enc before step t.
  ALIGNDRAW_INLINE Rows<T> decoder(int64_t t) const {
    return {of_decoder + t * in.sizes.batch * decoder_columns(), decoder_columns()};
  }
  ALIGNDRAW_INLINE Rows<T> encoder(int64_t t) const {
    return {of_encoder + t * in.sizes.batch * encoder_columns(), encoder_columns()};
  }
  // The gates of step t among them.
  ALIGNDRAW_INLINE Rows<T> decoder_gates(int64_t t) const {
    return {decoder(t).data + in.sizes.heads() + 4 * in.sizes.encoder, decoder_columns()};
  }
  ALIGNDRAW_INLINE Rows<T> encoder_gates(int64_t t) const {
    return {encoder(t).data + 2 * in.sizes.latents, encoder_columns()};
  }

  ALIGNDRAW_INLINE LookBackward<T> look(int64_t t) const {
    const UnrollSizes& s = in.sizes;
    const int64_t row = t * s.batch;
    return {in.image,
            tape.canvases + row * s.volume(),
            {tape.said + row * s.heads() + s.read_window_at(), s.heads()},
            glimpse,
            canvas,
            out.image,
            {decoder(t).data + s.read_window_at(), decoder_columns()}};
  }

  ALIGNDRAW_INLINE DrawBackward<T> draw(int64_t t) const {
    const UnrollSizes& s = in.sizes;
    const int64_t row = t * s.batch, heads = s.heads();
    const T* const said = tape.said + (row + s.batch) * heads;
    T* const grad_said = decoder(t + 1).data;
    return {canvas,
            given.windows + row * 5,
            {said + s.patch_at(), heads},
            {said + s.write_window_at(), heads},
            {grad_said + s.patch_at(), decoder_columns()},
            {grad_said + s.write_window_at(), decoder_columns()}};
  }

  ALIGNDRAW_INLINE LstmStepBackward<T> decode(int64_t t) const {
    const int64_t row = t * in.sizes.batch, n = in.sizes.decoder;
    return {{h_dec, n},
            c_dec,
            tape.decoder_gates + row * 4 * n,
            tape.decoder_c + row * n,
            {decoder_gates(t), {}}};
  }

  ALIGNDRAW_INLINE RecallBackward<T> recall(int64_t t, Rows<const T> grad_z) const {
    const UnrollSizes& s = in.sizes;
    const int64_t row = t * s.batch;
    const Rows<T> gates = decoder_gates(t);
    return {{in.words, in.keys, in.score, pushes, in.lengths},
            {tape.said + row * s.heads(), s.heads()},
            tape.weights + row * s.words,
            given.weights + row * s.words,
            {gates.data, gates.pitch},
            grad_z,
            given.kl + row,
            given.log_ratio + row,
            tape.posteriors + row * 2 * s.latents,
            {in.noise + t * s.latents, s.steps * s.latents},
            energies,
            out.keys,
            score,
            decoder(t),
            encoder(t + 1),
            {out.noise + t * s.latents, s.steps * s.latents},
            t > 0};
  }

  ALIGNDRAW_INLINE LstmStepBackward<T> encode(int64_t t) const {
    const int64_t row = t * in.sizes.batch, e = in.sizes.encoder;
    return {{h_enc, e},
            c_enc,
            tape.encoder_gates + row * 4 * e,
            tape.encoder_c + row * e,
            {encoder_gates(t), {decoder(t).data + in.sizes.heads(), decoder_columns()}}};
  }
};

// All steps in one launch, but for what follows the last one. With `rounds` the large products of
// float are of factors rounded to bfloat16.
template <class T>
Fit forward_fit(const UnrollSizes& sizes, bool rounds);
template <class T>
const char* launch_forward(const Forward<T>& loop, bool rounds, const Fit& fit,
                           CUstream_st* stream);
// Also the gradients of both first hidden states, by captions: h_dec and h_enc.
template <class T>
Fit backward_fit(const UnrollSizes& sizes, bool rounds);
template <class T>
const char* launch_backward(const Backward<T>& loop, bool rounds, const Fit& fit,
                            CUstream_st* stream);

}  // namespace aligndraw::cuda
