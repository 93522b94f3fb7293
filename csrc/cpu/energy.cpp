#include "energy.h"

#include "../math/attend.h"
#include "wide.h"

namespace aligndraw::cpu {
namespace {

template <class T>
ALIGNDRAW_INLINE void forward_words(const Caption<T>& caption, int64_t units, T* result) {
  const auto [query, keys, score, values, length] = caption;
  for (int64_t k = 0; k < length; ++k) {
    const T* const key = keys + k * units;
    result[k] =
        sum_of<T>(units, [=](int64_t j) { return math::energy(query[j], key[j], score[j]); });
  }
}

template <bool adds, class T>
ALIGNDRAW_INLINE void backward_words(const T* grad, const Caption<T>& caption, int64_t units,
                                     const CaptionGrads<T>& grads) {
  const auto [query, keys, score, values, length] = caption;
  for (int64_t j = 0; j < units; ++j) grads.query[j] = 0;
  for (int64_t k = 0; k < length; ++k) {
    const T* const key = keys + k * units;
    T* const grad_key = grads.keys + k * units;
#pragma omp simd
    for (int64_t j = 0; j < units; ++j) {
      const auto part = math::energy_backward(grad[k], query[j], key[j], score[j]);
      grad_key[j] = (adds ? grad_key[j] : T(0)) + part.key;
      grads.query[j] += part.key;
      grads.score[j] += part.score;
    }
  }
}

ALIGNDRAW_CLONES void forward_narrow(const Caption<float>& caption, int64_t units, float* result) {
  forward_words(caption, units, result);
}

ALIGNDRAW_CLONES void backward_narrow(const float* grad, const Caption<float>& caption,
                                      int64_t units, const CaptionGrads<float>& grads) {
  if (grads.adds_keys)
    backward_words<true>(grad, caption, units, grads);
  else
    backward_words<false>(grad, caption, units, grads);
}

#ifdef ALIGNDRAW_WIDE

ALIGNDRAW_WIDE void forward_wide(const Caption<float>& caption, int64_t units, float* result) {
  const auto [query, keys, score, values, length] = caption;
  const WideTanh tanh;
  for (int64_t k = 0; k < length; ++k) {
    const float* const key = keys + k * units;
    __m512 sums[2] = {};
    for (int64_t j = 0; j < units; j += 32)
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        const int64_t at = j + 16 * i;
        const __mmask16 part = first_of_sixteen(units - at);
        const __m512 sum = _mm512_add_ps(_mm512_maskz_loadu_ps(part, query + at),
                                         _mm512_maskz_loadu_ps(part, key + at));
        sums[i] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(part, score + at), tanh(sum), sums[i]);
      }
    result[k] = _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]));
  }
}

ALIGNDRAW_WIDE void backward_wide(const float* grad, const Caption<float>& caption, int64_t units,
                                  const CaptionGrads<float>& grads) {
  const auto [query, keys, score, values, length] = caption;
  const WideTanh tanh;
  for (int64_t j = 0; j < units; j += 16) {
    const __mmask16 part = first_of_sixteen(units - j);
    const __m512 q = _mm512_maskz_loadu_ps(part, query + j);
    const __m512 v = _mm512_maskz_loadu_ps(part, score + j);
    __m512 grad_query = {}, grad_score = _mm512_maskz_loadu_ps(part, grads.score + j);
    for (int64_t k = 0; k < length; ++k) {
      float* const grad_key = grads.keys + k * units + j;
      const __m512 grad_energy = _mm512_set1_ps(grad[k]);
      const __m512 value =
          tanh(_mm512_add_ps(q, _mm512_maskz_loadu_ps(part, keys + k * units + j)));
      const __m512 slope = _mm512_fnmadd_ps(value, value, _mm512_set1_ps(1));
      __m512 sum = _mm512_mul_ps(_mm512_mul_ps(grad_energy, v), slope);
      grad_query = _mm512_add_ps(grad_query, sum);
      grad_score = _mm512_fmadd_ps(grad_energy, value, grad_score);
      if (grads.adds_keys) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(part, grad_key));
      _mm512_mask_storeu_ps(grad_key, part, sum);
    }
    _mm512_mask_storeu_ps(grads.query + j, part, grad_query);
    _mm512_mask_storeu_ps(grads.score + j, part, grad_score);
  }
}

#endif

}  // namespace

void energies(const Caption<float>& caption, int64_t units, float* result) {
#ifdef ALIGNDRAW_WIDE
  if (is_wide()) return forward_wide(caption, units, result);
#endif
  forward_narrow(caption, units, result);
}

void energies(const Caption<double>& caption, int64_t units, double* result) {
  forward_words(caption, units, result);
}

void energies_backward(const float* grad, const Caption<float>& caption, int64_t units,
                       const CaptionGrads<float>& grads) {
#ifdef ALIGNDRAW_WIDE
  if (is_wide()) return backward_wide(grad, caption, units, grads);
#endif
  backward_narrow(grad, caption, units, grads);
}

void energies_backward(const double* grad, const Caption<double>& caption, int64_t units,
                       const CaptionGrads<double>& grads) {
  if (grads.adds_keys)
    backward_words<true>(grad, caption, units, grads);
  else
    backward_words<false>(grad, caption, units, grads);
}

}  // namespace aligndraw::cpu
