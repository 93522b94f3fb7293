#include "packed_decoder.h"

namespace aligndraw::cpu {
namespace {

constexpr int64_t header = 16;  // numbers

// The factors in memory, and the memory that they take.
template <class T>
struct Layout {
  using Sizes = typename PackedDecoder<T>::Sizes;

  Layout(const Sizes& s, T* memory, Isa isa, int64_t threads)
      : next(memory + header),
        isa(isa),
        threads(threads),
        factors{take(4 * s.units, s.word_size), take(4 * s.units, s.latents),
                take(4 * s.units, s.units), take(s.heads - 5, s.units)} {}

  Right<T> take(int64_t rows, int64_t columns) {
    T* const data = next;
    next += Packed<T>::size(rows, columns);
    return Right<T>(Packed<T>(rows, columns, isa, threads, data));
  }

  T* next;
  const Isa isa;
  const int64_t threads;
  PackedDecoder<T> factors;
};

}  // namespace

template <class T>
int64_t PackedDecoder<T>::size(const Sizes& s) {
  const auto of = Packed<T>::size;
  const int64_t gates = 4 * s.units;
  return header + of(gates, s.word_size) + of(gates, s.latents) + of(gates, s.units) +
         of(s.heads - 5, s.units);
}

template <class T>
PackedDecoder<T> PackedDecoder<T>::pack(const Sizes& s, T* memory, const T* decoder_ih,
                                        const T* decoder_hh, const T* heads) {
  PackedDecoder factors = Layout<T>(s, memory, isa(), thread_count()).factors;
  std::fill_n(memory, header, T(0));
  memory[0] = T(int64_t(isa())), memory[1] = T(thread_count());
  const int64_t gates = 4 * s.units, width = s.latents + s.word_size;
  factors.of_context.numbers->pack({decoder_ih + s.latents, gates, s.word_size, width});
  factors.of_latent.numbers->pack({decoder_ih, gates, s.latents, width});
  factors.of_h.numbers->pack(matrix(decoder_hh, gates, s.units));
  factors.heads_of_h.numbers->pack(matrix(heads, s.heads - 5, s.units));
  return factors;
}

template <class T>
PackedDecoder<T> PackedDecoder<T>::packed_before(const Sizes& s, const T* memory) {
  return Layout<T>(s, const_cast<T*>(memory), Isa(int64_t(memory[0])), int64_t(memory[1])).factors;
}

template struct PackedDecoder<float>;
template struct PackedDecoder<double>;

Tensor pack_decoder(Tensor decoder_ih, Tensor decoder_hh, Tensor heads, int64_t latents) {
  const int64_t units = decoder_hh.size(1);
  const auto pack = [&]<class T>(T) {
    const typename PackedDecoder<T>::Sizes s{units, latents, decoder_ih.size(1) - latents,
                                             heads.size(0)};
    const Tensor packed = pooled({PackedDecoder<T>::size(s)}, decoder_ih.scalar_type());
    const Tensor ih = as_contiguous(decoder_ih), hh = as_contiguous(decoder_hh);
    const Tensor all_heads = as_contiguous(heads);
    PackedDecoder<T>::pack(s, packed.mutable_data_ptr<T>(), ih.const_data_ptr<T>(),
                           hh.const_data_ptr<T>(), all_heads.const_data_ptr<T>());
    return packed;
  };
  return is_double(decoder_ih) ? pack(double()) : pack(float());
}

}  // namespace aligndraw::cpu
