// The decoder's weights, packed for the products of unroll_prior: in a call, or once for many calls
// (aligndraw/ops/packed_decoder.py).
#pragma once
#include <vector>

#include "../unroll_prior.h"
#include "factor.h"

namespace aligndraw::cpu {

// The right factors of a step: of the words' vectors, of the latent, and twice of h_dec.
template <class T>
struct PackedDecoder {
  Right<T> of_context;  // [4n, d]
  Right<T> of_latent;   // [4n, z]
  Right<T> of_h;        // [4n, n]
  Right<T> heads_of_h;  // [R - 5, n]: all heads but the last one, the read window

  struct Sizes {
    int64_t units, latents, word_size, heads;  // n, z, d, R
  };

  // The factors lie one after another in memory of size(s) numbers that outlives this object,
  // behind a header. It says for which ISA and for how many threads they are packed: their layout
  // depends on both.
  static int64_t size(const Sizes& s);
  static PackedDecoder pack(const Sizes& s, T* memory, const T* decoder_ih, const T* decoder_hh,
                            const T* heads);
  static PackedDecoder packed_before(const Sizes& s, const T* memory);
};

// The op `pack_decoder`: packed memory of weights in the shapes of unroll_prior.
Tensor pack_decoder(Tensor decoder_ih, Tensor decoder_hh, Tensor heads, int64_t latents);

// The op `unroll_prior_packed`: unroll_prior with memory that pack_decoder made of its weights.
UnrollPriorResultTuple unroll_prior_packed(ALIGNDRAW_UNROLL_PRIOR_PARAMETERS, Tensor packed);

// The op `fingerprint`: 64 bits of the tensors' sizes and bytes. A change of one number changes
// them; of any other change one in 2^64 does not.
int64_t fingerprint(std::vector<Tensor> tensors);

}  // namespace aligndraw::cpu
