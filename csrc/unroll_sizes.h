// The sizes of unroll, and the columns of its rows: no torch.
#pragma once
#include "math/scalar.h"

namespace aligndraw {

struct UnrollSizes {
  int64_t batch, channels, height, width, steps;
  int64_t words, word_size;  // N, d
  int64_t units, latents;    // l, z
  int64_t encoder, decoder;  // e, n
  int64_t read_size, write_size;
  int64_t tints;         // of a patch
  int64_t behind_patch;  // head outputs of its tints and its opacity
  bool attends;          // there are keys
  bool opacity;          // patches have one, and cover the canvas

  ALIGNDRAW_INLINE int64_t volume() const { return channels * height * width; }
  ALIGNDRAW_INLINE int64_t glimpse() const { return 2 * channels * read_size * read_size; }
  ALIGNDRAW_INLINE int64_t patch() const { return channels * write_size * write_size; }
  // With its opacity.
  ALIGNDRAW_INLINE int64_t patch_channels() const { return channels + opacity; }
  ALIGNDRAW_INLINE int64_t drawn_patch() const {
    return patch_channels() * write_size * write_size;
  }
  ALIGNDRAW_INLINE int64_t encoder_in() const { return glimpse() + decoder; }
  ALIGNDRAW_INLINE int64_t decoder_in() const { return latents + word_size; }

  // The first column of each head. Below it, the number of its columns. Behind the patch are its
  // tints, of a mask and a colour each, and its opacity, if it has one.
  //
  //   0        prior_at()  patch_at()                          opacity_at()  write_window_at()
  //   query l  prior 2z    patch C p p, tints times (p p + C)  p p or none   window 5
  //
  //   read_window_at()
  //   window 5
  ALIGNDRAW_INLINE int64_t prior_at() const { return units; }
  ALIGNDRAW_INLINE int64_t patch_at() const { return prior_at() + 2 * latents; }
  ALIGNDRAW_INLINE int64_t opacity_at() const {
    return write_window_at() - (drawn_patch() - patch());
  }
  ALIGNDRAW_INLINE int64_t write_window_at() const { return patch_at() + patch() + behind_patch; }
  ALIGNDRAW_INLINE int64_t read_window_at() const { return write_window_at() + 5; }
  ALIGNDRAW_INLINE int64_t heads() const { return read_window_at() + 5; }
};

}  // namespace aligndraw
