#include "energy.h"

#include "../math/attend.h"
#include "avx512.h"

namespace aligndraw::cpu {
namespace {

template <class T>
ALIGNDRAW_INLINE void forward_words(const Caption<T>& caption, int64_t units, T* result) {
  const T *const query = caption.query, *const keys = caption.keys, *const score = caption.score;
  const int64_t length = caption.length;
  for (int64_t k = 0; k < length; ++k) {
    const T* const key = keys + k * units;
    result[k] =
        sum_of<T>(units, [=](int64_t j) { return math::energy(query[j], key[j], score[j]); });
  }
}

template <bool accumulate, class T>
ALIGNDRAW_INLINE void backward_words(const T* grad, const Caption<T>& caption, int64_t units,
                                     const CaptionGrads<T>& grads) {
  const T *const query = caption.query, *const keys = caption.keys, *const score = caption.score;
  const int64_t length = caption.length;
  for (int64_t j = 0; j < units; ++j) grads.query[j] = 0;
  for (int64_t k = 0; k < length; ++k) {
    const T* const key = keys + k * units;
    T* const grad_key = grads.keys + k * units;
#pragma omp simd
    for (int64_t j = 0; j < units; ++j) {
      const auto part = math::energy_backward(grad[k], query[j], key[j], score[j]);
      grad_key[j] = (accumulate ? grad_key[j] : T(0)) + part.key;
      grads.query[j] += part.key;
      grads.score[j] += part.score;
    }
  }
}

ALIGNDRAW_CLONES void forward_elsewhere(const Caption<float>& caption, int64_t units,
                                        float* result) {
  forward_words(caption, units, result);
}

ALIGNDRAW_CLONES void backward_elsewhere(const float* grad, const Caption<float>& caption,
                                         int64_t units, const CaptionGrads<float>& grads) {
  if (grads.adds_keys)
    backward_words<true>(grad, caption, units, grads);
  else
    backward_words<false>(grad, caption, units, grads);
}

#ifdef ALIGNDRAW_X86

ALIGNDRAW_AVX512 void forward_avx512(const Caption<float>& caption, int64_t units, float* result) {
  const float *const query = caption.query, *const keys = caption.keys,
                     *const score = caption.score;
  const int64_t length = caption.length;
  const Avx512Tanh tanh;
  for (int64_t k = 0; k < length; ++k) {
    const float* const key = keys + k * units;
    __m512 sum = {};
    in_sixteens(units, [&](Sixteen at) ALIGNDRAW_AVX512_LAMBDA {
      __builtin_prefetch(key + 2 * units + at.first);
      sum = _mm512_fmadd_ps(at(score), tanh(_mm512_add_ps(at(query), at(key))), sum);
    });
    result[k] = _mm512_reduce_add_ps(sum);
  }
}

// Goes word by word, so that memory is read and written in order. It prefetches the words after the
// next one, since arithmetic and memory take about equally long.
ALIGNDRAW_AVX512 void backward_avx512(const float* grad, const Caption<float>& caption,
                                      int64_t units, const CaptionGrads<float>& grads) {
  const float *const query = caption.query, *const keys = caption.keys,
                     *const score = caption.score;
  const int64_t length = caption.length;
  const Avx512Tanh tanh;
  std::fill_n(grads.query, units, 0.0f);
  for (int64_t k = 0; k < length; ++k) {
    const float* const key = keys + k * units;
    float* const grad_key = grads.keys + k * units;
    const __m512 grad_energy = _mm512_set1_ps(grad[k]);
    in_sixteens(units, [=](Sixteen at) ALIGNDRAW_AVX512_LAMBDA {
      __builtin_prefetch(key + 2 * units + at.first);
      __builtin_prefetch(grad_key + 2 * units + at.first, 1);
      const __m512 value = tanh(_mm512_add_ps(at(query), at(key)));
      const __m512 slope = _mm512_fnmadd_ps(value, value, _mm512_set1_ps(1));
      const __m512 sum = _mm512_mul_ps(_mm512_mul_ps(grad_energy, at(score)), slope);
      at.put(grads.query, _mm512_add_ps(at(grads.query), sum));
      at.put(grads.score, _mm512_fmadd_ps(grad_energy, value, at(grads.score)));
      at.put(grad_key, grads.adds_keys ? _mm512_add_ps(sum, at(grad_key)) : sum);
    });
  }
}

#endif

}  // namespace

void energies(const Caption<float>& caption, int64_t units, float* result) {
#ifdef ALIGNDRAW_X86
  if (isa() >= Isa::avx512) return forward_avx512(caption, units, result);
#endif
  forward_elsewhere(caption, units, result);
}

void energies(const Caption<double>& caption, int64_t units, double* result) {
  forward_words(caption, units, result);
}

void energies_backward(const float* grad, const Caption<float>& caption, int64_t units,
                       const CaptionGrads<float>& grads) {
#ifdef ALIGNDRAW_X86
  if (isa() >= Isa::avx512) return backward_avx512(grad, caption, units, grads);
#endif
  backward_elsewhere(grad, caption, units, grads);
}

void energies_backward(const double* grad, const Caption<double>& caption, int64_t units,
                       const CaptionGrads<double>& grads) {
  if (grads.adds_keys)
    backward_words<true>(grad, caption, units, grads);
  else
    backward_words<false>(grad, caption, units, grads);
}

}  // namespace aligndraw::cpu
