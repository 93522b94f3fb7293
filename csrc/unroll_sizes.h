// The letters of unroll, and where things lie in its rows: no torch.
#pragma once
#include "math/scalar.h"

namespace aligndraw {

struct UnrollSizes {
  int64_t batch, channels, height, width, steps, words, word_size, units, latents, encoder, decoder;
  int64_t read_size, write_size;

  ALIGNDRAW_INLINE int64_t volume() const { return channels * height * width; }
  ALIGNDRAW_INLINE int64_t glimpse() const { return 2 * channels * read_size * read_size; }
  ALIGNDRAW_INLINE int64_t patch() const { return channels * write_size * write_size; }
  ALIGNDRAW_INLINE int64_t encoder_in() const { return glimpse() + decoder; }
  ALIGNDRAW_INLINE int64_t decoder_in() const { return latents + word_size; }
  // Where the heads' columns begin: the query first.
  ALIGNDRAW_INLINE int64_t prior_at() const { return units; }
  ALIGNDRAW_INLINE int64_t patch_at() const { return prior_at() + 2 * latents; }
  ALIGNDRAW_INLINE int64_t write_window_at() const { return patch_at() + patch(); }
  ALIGNDRAW_INLINE int64_t read_window_at() const { return write_window_at() + 5; }
  ALIGNDRAW_INLINE int64_t heads() const { return read_window_at() + 5; }
};

}  // namespace aligndraw
