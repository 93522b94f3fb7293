// The stages of a step of unroll between its matrix products, and all steps in one launch each way,
// on raw memory of float or double. ../unroll_fields.h has the shapes and ../unroll.h the contract.
// Functions that launch return nullptr, or CUDA's error message.
//
// The arrays of a stage are those of one step. The letters of the shapes are in ../unroll_fields.h.
#pragma once
#include "../unroll_pointers.h"
#include "launch_grid.h"
#include "loop.h"

namespace aligndraw::cuda {

// A word's gates are what the word adds to the decoder's gates: its product with the weights of the
// context. The context is a weighted sum of words, so the sum of their gates, in the same weights,
// replaces the product with the context.
template <class T>
struct Captions {
  const T* words;          // [B, N, d]
  const T* keys;           // [B, N, l]; null without attention
  const T* score;          // [l]; null without attention
  const T* word_gates;     // [B, N, 4n]
  const int64_t* lengths;  // [B]
};

// The read-and-attend stage, the first of a step: it finishes the head outputs, writes the canvas
// of the step before, reads its glimpse, and attends to the caption.
template <class T>
struct ReadAttend {
  Rows<const T> head_products;  // [B, R]: heads times h_dec
  const T* heads_bias;          // [R]
  const T* decoder_h;           // [B, n]
  Captions<T> captions;
  const T* image;             // [B, C, H, W]
  Rows<const T> last_canvas;  // [B, C, H, W]: before the write
  bool writes;                // false at the first step, which has no patch
  T* head_outputs;            // [B, R]
  T* canvas;                  // [B, C, H, W]: after the write
  T* windows;                 // [B, 5]: of the write
  OperandRows<T> encoder_in;  // [B, G + n]; the G numbers of the glimpse are kept rounded too
  T* weights;                 // [B, N]
  Rows<T> context;            // [B, d]
  T* context_gates;           // [B, 4n]
};
template <class T>
const char* launch_stage(const ReadAttend<T>& stage, const UnrollSizes& sizes, CUstream_st* stream);

// After the last step: finishes the head outputs and writes the last canvas.
template <class T>
const char* launch_last_write(const ReadAttend<T>& stage, const UnrollSizes& sizes,
                              CUstream_st* stream);

// Draws the latent from the posterior.
template <class T>
struct Infer {
  Rows<const T> product;  // [B, 2z]: the posterior without its bias
  const T* bias;          // [2z]
  Rows<const T> prior;    // [B, 2z]
  Rows<const T> noise;    // [B, z]
  T* posteriors;          // [B, 2z]
  OperandRows<T> z;       // [B, z]
};
template <class T>
const char* launch_stage(const Infer<T>& stage, const UnrollSizes& sizes, CUstream_st* stream);

// Back through the read. It adds to the gradients of the canvas and of the image.
template <class T>
struct ReadBackward {
  const T* image;              // [B, C, H, W]
  const T* canvas;             // [B, C, H, W]
  Rows<const T> window;        // [B, 5]
  const T* grad_glimpse;       // [B, G]
  T* grad_canvas;              // [B, C, H, W]
  T* grad_image;               // [B, C, H, W], or null
  OperandRows<T> grad_window;  // [B, 5]
};
template <class T>
const char* launch_stage(const ReadBackward<T>& stage, const UnrollSizes& sizes,
                         CUstream_st* stream);

// Back through the write.
template <class T>
struct WriteBackward {
  const T* grad_canvas;        // [B, C, H, W]
  const T* grad_windows;       // [B, 5]: of the results
  Rows<const T> patch;         // [B, C, p, p]
  Rows<const T> window;        // [B, 5]
  OperandRows<T> grad_patch;   // [B, C, p, p]
  OperandRows<T> grad_window;  // [B, 5]
};
template <class T>
const char* launch_stage(const WriteBackward<T>& stage, const UnrollSizes& sizes,
                         CUstream_st* stream);

// Back through the attention and, at the same time, through the latent. It adds to the gradients of
// keys and score.
template <class T>
struct AttentionBackward {
  Captions<T> captions;
  Rows<const T> head_outputs;        // [B, R]: before the step
  const T* weights;                  // [B, N]
  const T* grad_weights;             // [B, N]
  Rows<const T> grad_context_gates;  // [B, 4n]
  Rows<const T> grad_z;              // [B, z]
  const T* grad_kl;                  // [B]
  const T* grad_log_ratio;           // [B]
  const T* posteriors;               // [B, 2z]
  Rows<const T> noise;               // [B, z]
  T* energies;                       // [B, N]: workspace
  T* grad_keys;                      // [B, N, l]
  T* grad_score;                     // [B, l]
  OperandRows<T> grad_heads;         // [B, R]: query and prior
  OperandRows<T> grad_posteriors;    // [B, 2z]
  Rows<T> grad_noise;                // [B, z]
  bool has_prior;                    // false at the first step, whose prior is N(0, I)
};
template <class T>
const char* launch_stage(const AttentionBackward<T>& stage, const UnrollSizes& sizes,
                         CUstream_st* stream);

// A whole forward. Launches per step and the launch of all steps take their stages from it.
template <class T>
struct Forward {
  UnrollPointers<T> in;
  UnrollOutputs<T> out;
  const T* word_gates;    // [B, N, 4n]
  Rows<T> head_products;  // [B, R]: heads times h_dec
  T* context_gates;       // [B, 4n]
  // Places for what a step hands to products that round, with rows padded(); else null.
  uint16_t* rounded_glimpse = nullptr;  // [B, G]
  uint16_t* rounded_h_enc = nullptr;    // [B, e]
  uint16_t* rounded_z = nullptr;        // [B, z]
  uint16_t* rounded_h_dec = nullptr;    // [B, n]

  // Of step t, but for the canvas and the captions. With t = T the stage after the last step.
  ALIGNDRAW_INLINE ReadAttend<T> finish_heads(int64_t t) const {
    const UnrollSizes& s = in.sizes;
    const int64_t row = t * s.batch, volume = s.volume();
    ReadAttend<T> stage{};
    stage.head_products = {head_products.data, head_products.row_stride};
    stage.heads_bias = in.heads_bias;
    stage.image = in.image;
    stage.last_canvas = t ? Rows<const T>{out.canvases + (row - s.batch) * volume, volume}
                          : Rows<const T>{in.canvas, 0};
    stage.writes = t > 0;
    stage.head_outputs = out.head_outputs + row * s.heads();
    stage.windows = t ? out.windows + (row - s.batch) * 5 : nullptr;
    return stage;
  }

  ALIGNDRAW_INLINE ReadAttend<T> read_attend(int64_t t) const {
    const UnrollSizes& s = in.sizes;
    const int64_t row = t * s.batch;
    ReadAttend<T> stage = finish_heads(t);
    stage.canvas = out.canvases + row * s.volume();
    stage.decoder_h = out.decoder_h + row * s.decoder;
    stage.captions = {.words = in.words,
                      .keys = in.keys,
                      .score = in.score,
                      .word_gates = word_gates,
                      .lengths = in.lengths};
    stage.encoder_in = {out.encoder_in + row * s.encoder_in(), s.encoder_in(), rounded_glimpse,
                        padded(s.glimpse())};
    stage.weights = out.weights + row * s.words;
    stage.context = {out.decoder_in + row * s.decoder_in() + s.latents, s.decoder_in()};
    stage.context_gates = context_gates;
    return stage;
  }

  ALIGNDRAW_INLINE ReadAttend<T> last_write() const {
    ReadAttend<T> stage = finish_heads(in.sizes.steps);
    stage.canvas = out.canvas;
    return stage;
  }

  // The terms are still to come: products with glimpse, h_dec and h_enc.
  ALIGNDRAW_INLINE LstmStep<T> encode(int64_t t) const {
    const int64_t B = in.sizes.batch, row = t * B, e = in.sizes.encoder;
    return {.terms = {},
            .bias = in.encoder_bias,
            .c = out.encoder_c + row * e,
            .gates = out.encoder_gates + row * 4 * e,
            .h = {out.encoder_h + (row + B) * e, e, rounded_h_enc, padded(e)},
            .c_next = out.encoder_c + (row + B) * e};
  }

  ALIGNDRAW_INLINE Infer<T> infer(int64_t t, Rows<const T> product) const {
    const UnrollSizes& s = in.sizes;
    const int64_t row = t * s.batch;
    return {
        .product = product,
        .bias = in.posterior_bias,
        .prior = {out.head_outputs + row * s.heads() + s.prior_at(), s.heads()},
        .noise = {in.noise + t * s.latents, s.steps * s.latents},
        .posteriors = out.posteriors + row * 2 * s.latents,
        .z = {out.decoder_in + row * s.decoder_in(), s.decoder_in(), rounded_z, padded(s.latents)}};
  }

  // Two terms are still to come: products with z and h_dec.
  ALIGNDRAW_INLINE LstmStep<T> decode(int64_t t) const {
    const int64_t B = in.sizes.batch, row = t * B, n = in.sizes.decoder;
    return {.terms = {{in.keys ? context_gates : word_gates, 4 * n}, {}, {}},
            .bias = in.decoder_bias,
            .c = out.decoder_c + row * n,
            .gates = out.decoder_gates + row * 4 * n,
            .h = {out.decoder_h + (row + B) * n, n, rounded_h_dec, padded(n)},
            .c_next = out.decoder_c + (row + B) * n};
  }
};

// After the loop: KL and log ratio of all steps.
template <class T>
const char* launch_divergences(const Forward<T>& loop, CUstream_st* stream);

// A whole backward, likewise.
//
// The gradients of all products with one state lie in one row, so that one product brings them back
// to the state:
//
//   of_decoder [T + 1, B, 4n + 4e + R]:  decoder gates | encoder gates | heads     of h_dec
//   of_encoder [T + 1, B, 4e + 2z]:      encoder gates | posterior                 of h_enc
template <class T>
struct Backward {
  UnrollPointers<T> in;
  UnrollTape<T> tape;
  UnrollResultGrads<T> given;
  UnrollGrads<T> out;
  const T* word_gates;        // [B, N, 4n]
  OperandRows<T> of_decoder;  // [T + 1, B, 4n + 4e + R]
  OperandRows<T> of_encoder;  // [T + 1, B, 4e + 2z]
  T* h_dec;                   // [B, n], as the next five a gradient that moves from step to step
  T* c_dec;                   // [B, n]
  T* h_enc;                   // [B, e]
  T* c_enc;                   // [B, e]
  T* canvas;                  // [B, C, H, W]
  T* glimpse;                 // [B, G]
  T* score;                   // [B, l]: the sum over the steps so far
  T* energies;                // [B, N]: workspace

  // The first columns of the encoder's gates and of the heads in of_decoder, of the posterior in
  // of_encoder.
  ALIGNDRAW_INLINE int64_t encoder_at() const { return 4 * in.sizes.decoder; }
  ALIGNDRAW_INLINE int64_t heads_at() const { return encoder_at() + 4 * in.sizes.encoder; }
  ALIGNDRAW_INLINE int64_t posterior_at() const { return 4 * in.sizes.encoder; }
  ALIGNDRAW_INLINE int64_t decoder_columns() const { return heads_at() + in.sizes.heads(); }
  ALIGNDRAW_INLINE int64_t encoder_columns() const { return posterior_at() + 2 * in.sizes.latents; }
  // The rows of h_dec and of h_enc before step t: the gates come first, of its own LSTM in step t.
  ALIGNDRAW_INLINE OperandRows<T> decoder(int64_t t) const {
    return of_decoder.from(t * in.sizes.batch, 0);
  }
  ALIGNDRAW_INLINE OperandRows<T> encoder(int64_t t) const {
    return of_encoder.from(t * in.sizes.batch, 0);
  }
  ALIGNDRAW_INLINE OperandRows<T> heads(int64_t t) const {
    return of_decoder.from(t * in.sizes.batch, heads_at());
  }

  ALIGNDRAW_INLINE ReadBackward<T> read(int64_t t) const {
    const UnrollSizes& s = in.sizes;
    const int64_t row = t * s.batch;
    return {.image = in.image,
            .canvas = tape.canvases + row * s.volume(),
            .window = {tape.head_outputs + row * s.heads() + s.read_window_at(), s.heads()},
            .grad_glimpse = glimpse,
            .grad_canvas = canvas,
            .grad_image = out.image,
            .grad_window = heads(t).from(0, s.read_window_at())};
  }

  ALIGNDRAW_INLINE WriteBackward<T> write(int64_t t) const {
    const UnrollSizes& s = in.sizes;
    const int64_t row = t * s.batch, columns = s.heads();
    const T* const outputs = tape.head_outputs + (row + s.batch) * columns;
    return {.grad_canvas = canvas,
            .grad_windows = given.windows + row * 5,
            .patch = {outputs + s.patch_at(), columns},
            .window = {outputs + s.write_window_at(), columns},
            .grad_patch = heads(t + 1).from(0, s.patch_at()),
            .grad_window = heads(t + 1).from(0, s.write_window_at())};
  }

  ALIGNDRAW_INLINE LstmStepBackward<T> decode(int64_t t) const {
    const int64_t row = t * in.sizes.batch, n = in.sizes.decoder;
    return {.grad_h = {h_dec, n},
            .grad_c = c_dec,
            .gates = tape.decoder_gates + row * 4 * n,
            .c = tape.decoder_c + row * n,
            .grad_gates = {decoder(t), {}}};
  }

  ALIGNDRAW_INLINE AttentionBackward<T> attention(int64_t t, Rows<const T> grad_z) const {
    const UnrollSizes& s = in.sizes;
    const int64_t row = t * s.batch;
    return {.captions = {.words = in.words,
                         .keys = in.keys,
                         .score = in.score,
                         .word_gates = word_gates,
                         .lengths = in.lengths},
            .head_outputs = {tape.head_outputs + row * s.heads(), s.heads()},
            .weights = tape.weights + row * s.words,
            .grad_weights = given.weights + row * s.words,
            .grad_context_gates = decoder(t).unrounded(),
            .grad_z = grad_z,
            .grad_kl = given.kl + row,
            .grad_log_ratio = given.log_ratio + row,
            .posteriors = tape.posteriors + row * 2 * s.latents,
            .noise = {in.noise + t * s.latents, s.steps * s.latents},
            .energies = energies,
            .grad_keys = out.keys,
            .grad_score = score,
            .grad_heads = heads(t),
            .grad_posteriors = encoder(t + 1).from(0, posterior_at()),
            .grad_noise = {out.noise + t * s.latents, s.steps * s.latents},
            .has_prior = t > 0};
  }

  ALIGNDRAW_INLINE LstmStepBackward<T> encode(int64_t t) const {
    const int64_t row = t * in.sizes.batch, e = in.sizes.encoder;
    return {.grad_h = {h_enc, e},
            .grad_c = c_enc,
            .gates = tape.encoder_gates + row * 4 * e,
            .c = tape.encoder_c + row * e,
            .grad_gates = {encoder(t), decoder(t).from(0, encoder_at())}};
  }
};

// All steps in one launch, without the stage after the last one. With `rounds`, the large products
// of float have operands rounded to bfloat16.
template <class T>
LaunchGrid forward_grid(const UnrollSizes& sizes, bool rounds);
template <class T>
const char* launch_forward(const Forward<T>& loop, bool rounds, const LaunchGrid& grid,
                           CUstream_st* stream);
// It also leaves the gradients of both first hidden states in h_dec and h_enc.
template <class T>
LaunchGrid backward_grid(const UnrollSizes& sizes, bool rounds);
template <class T>
const char* launch_backward(const Backward<T>& loop, bool rounds, const LaunchGrid& grid,
                            CUstream_st* stream);

}  // namespace aligndraw::cuda
