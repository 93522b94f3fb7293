// Products with AVX-512, where a vector holds two rows of the usual patch, 8 wide, or two terms of
// its sums.
#pragma once
#include "product.h"
#include "wide.h"

#ifdef ALIGNDRAW_WIDE
#include <type_traits>
#include <utility>

namespace aligndraw::cpu {

// Numbers `pitch` bytes apart, reached with few registers: a compiler takes one for each, and keeps
// in vector registers those that x86 has not got.
class Column {
 public:
  ALIGNDRAW_WIDE_INLINE Column(const float* first, int64_t pitch)
      : first_(reinterpret_cast<const char*>(first)), pitch_(sizeof(float) * pitch) {}

  ALIGNDRAW_WIDE_INLINE const float* operator()(int i) const {
    const char* const near = first_ + i / 4 * 4 * pitch_;
    return reinterpret_cast<const float*>(near + (i % 4 == 3 ? thrice_ : i % 4 * pitch_));
  }
  ALIGNDRAW_WIDE_INLINE void advance(int64_t numbers) {
    first_ += sizeof(float) * numbers;
    asm("" : "+r"(first_), "+r"(pitch_), "+r"(thrice_));
  }

 private:
  const char* first_;
  int64_t pitch_, thrice_ = 3 * pitch_;
};

// A number, or two in turn, in all lanes.
ALIGNDRAW_WIDE_INLINE __m512 one(const float* number) { return _mm512_set1_ps(*number); }
ALIGNDRAW_WIDE_INLINE __m512 two(const float* numbers) {
  double pair;
  __builtin_memcpy(&pair, numbers, sizeof pair);
  return _mm512_castpd_ps(_mm512_set1_pd(pair));
}

// `rows` rows and `vectors` vectors of columns, in registers until they are summed; `part` are the
// columns of the last vector.
template <int rows, int vectors>
ALIGNDRAW_WIDE_INLINE void wide_tile(const Factor<float>& a, Rows<const float> b,
                                     Rows<float> result, int64_t depth, const float* start,
                                     __mmask16 part) {
  const auto at = [=](int v) ALIGNDRAW_WIDE_LAMBDA {
    return Sixteen{16 * v, v + 1 < vectors ? __mmask16(0xffff) : part};
  };
  __m512 sums[rows][vectors] = {}, row[vectors];
  if (start)
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sums[i][v] = at(v)(start + i * result.pitch);
  Column factors(a.data, a.row);
  for (int64_t k = 0; k < depth; ++k, factors.advance(a.column)) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) row[v] = at(v)(b.data + k * b.pitch);
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i) {
      const __m512 factor = one(factors(i));
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sums[i][v] = _mm512_fmadd_ps(factor, row[v], sums[i][v]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) at(v).put(result.data + i * result.pitch, sums[i][v]);
}

template <int rows>
ALIGNDRAW_WIDE_INLINE void wide_strip(const Factor<float>& a, Rows<const float> b,
                                      Rows<float> result, int64_t depth, int64_t width,
                                      const float* start) {
  int64_t j = 0;
  const auto next = [&]<int vectors>(std::integral_constant<int, vectors>,
                                     __mmask16 part) ALIGNDRAW_WIDE_LAMBDA {
    wide_tile<rows, vectors>(a, {b.data + j, b.pitch}, {result.data + j, result.pitch}, depth,
                             start ? start + j : nullptr, part);
    j += 16 * vectors;
  };
  constexpr std::integral_constant<int, 1> one_vector;
  constexpr std::integral_constant<int, 2> two_vectors;
  while (j + 32 <= width) next(two_vectors, 0xffff);
  const int64_t left = width - j;
  if (left > 16)
    next(two_vectors, __mmask16((1u << (left - 16)) - 1));
  else if (left > 0)
    next(one_vector, __mmask16((1u << left) - 1));
}

constexpr __mmask16 one_row = 0x00ff, first_of_pairs = 0x5555;

// The elements of two rows of 8 in turn.
ALIGNDRAW_WIDE_INLINE __m512 in_turn(__m512 rows) {
  return _mm512_permutexvar_ps(
      _mm512_set_epi32(15, 7, 14, 6, 13, 5, 12, 4, 11, 3, 10, 2, 9, 1, 8, 0), rows);
}

// Rows of 8 one after another, with two terms of a sum in a pair of lanes: where these lie side by
// side in the first factor. Two vectors of sums a row hide the time that an addition takes.
template <int rows>
ALIGNDRAW_WIDE_INLINE void pairs_of_terms(const Factor<float>& a, const float* b, float* result,
                                          int64_t depth, const float* start) {
  __m512 sums[rows + 1] = {}, others[rows] = {};
  Column factors(a.data, a.row);
  int64_t k = 0;
  for (; k + 4 <= depth; k += 4, factors.advance(4)) {
    const __m512 terms = in_turn(_mm512_loadu_ps(b + 8 * k));
    const __m512 next_terms = in_turn(_mm512_loadu_ps(b + 8 * k + 16));
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      sums[i] = _mm512_fmadd_ps(two(factors(i)), terms, sums[i]);
      others[i] = _mm512_fmadd_ps(two(factors(i) + 2), next_terms, others[i]);
    }
  }
  if (k + 2 <= depth) {
    const __m512 terms = in_turn(_mm512_loadu_ps(b + 8 * k));
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) sums[i] = _mm512_fmadd_ps(two(factors(i)), terms, sums[i]);
    k += 2, factors.advance(2);
  }
  if (k < depth) {
    const __m512 term = in_turn(_mm512_maskz_loadu_ps(one_row, b + 8 * k));
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i)
      others[i] =
          _mm512_fmadd_ps(_mm512_maskz_mov_ps(first_of_pairs, one(factors(i))), term, others[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) sums[i] = _mm512_add_ps(sums[i], others[i]);
  const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  const __m512i odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
#pragma GCC unroll 4
  for (int i = 0; i < rows; i += 2) {
    const Sixteen at{8 * i, i + 1 < rows ? __mmask16(0xffff) : one_row};
    __m512 sum = _mm512_add_ps(_mm512_permutex2var_ps(sums[i], even, sums[i + 1]),
                               _mm512_permutex2var_ps(sums[i], odd, sums[i + 1]));
    if (start) sum = _mm512_add_ps(sum, at(start));
    at.put(result, sum);
  }
}

// Likewise, with two rows in pairs of lanes: where their factors lie side by side.
template <int pairs>
ALIGNDRAW_WIDE_INLINE void pairs_of_rows(const Factor<float>& a, const float* b, float* result,
                                         int64_t depth, const float* start) {
  const __m512i twice = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
  const __m512i apart = _mm512_set_epi32(15, 13, 11, 9, 7, 5, 3, 1, 14, 12, 10, 8, 6, 4, 2, 0);
  __m512 sums[pairs] = {};
  for (int64_t k = 0; k < depth; ++k) {
    const __m512 row = _mm512_permutexvar_ps(twice, _mm512_maskz_loadu_ps(one_row, b + 8 * k));
#pragma GCC unroll 8
    for (int i = 0; i < pairs; ++i)
      sums[i] = _mm512_fmadd_ps(two(a.data + 2 * i + k * a.column), row, sums[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < pairs; ++i) {
    __m512 sum = _mm512_permutexvar_ps(apart, sums[i]);
    if (start) sum = _mm512_add_ps(sum, _mm512_loadu_ps(start + 16 * i));
    _mm512_storeu_ps(result + 16 * i, sum);
  }
}

// part(first, count) for about equal strips of `total`, with count = 1 ... `most`.
template <int most, class F>
ALIGNDRAW_WIDE_INLINE void in_strips(int64_t total, const F& part) {
  const int64_t strips = (total + most - 1) / most;
  for (int64_t s = 0; s < strips; ++s) {
    const int64_t first = total * s / strips, count = total * (s + 1) / strips - first;
    [&]<int... i>(std::integer_sequence<int, i...>) ALIGNDRAW_WIDE_LAMBDA {
      (void)((count == i + 1 && (part(first, std::integral_constant<int, i + 1>()), true)) || ...);
    }(std::make_integer_sequence<int, most>());
  }
}

// Whether rows of 8 follow one another everywhere, with two factors side by side.
inline bool are_eights(const Factor<float>& a, Rows<const float> b, Rows<float> result,
                       int64_t width) {
  return width == 8 && b.pitch == 8 && result.pitch == 8 && (a.column == 1 || a.row == 1);
}

// As product(), which asks for it where the rows are eights or have more than 16 columns: its own
// tiles serve the others as well or better.
ALIGNDRAW_WIDE inline void wide_product(const Factor<float>& a, Rows<const float> b,
                                        Rows<float> result, int64_t rows, int64_t depth,
                                        int64_t width, const float* start) {
  const auto from = [=](int64_t row) { return start ? start + row * result.pitch : nullptr; };
  const auto part = [=](int64_t row) {
    return Factor<float>{a.data + row * a.row, a.row, a.column};
  };
  const bool eights = are_eights(a, b, result, width);
  if (eights && a.column == 1)
    return in_strips<8>(
        rows, [=]<int count>(int64_t i, std::integral_constant<int, count>) ALIGNDRAW_WIDE_LAMBDA {
          pairs_of_terms<count>(part(i), b.data, result.data + 8 * i, depth, from(i));
        });
  const int64_t pairs = eights ? rows / 2 : 0;
  in_strips<8>(
      pairs, [=]<int count>(int64_t i, std::integral_constant<int, count>) ALIGNDRAW_WIDE_LAMBDA {
        pairs_of_rows<count>(part(2 * i), b.data, result.data + 16 * i, depth, from(2 * i));
      });
  in_strips<12>(rows - 2 * pairs,
                [=]<int count>(int64_t i, std::integral_constant<int, count>)
                    ALIGNDRAW_WIDE_LAMBDA {
                      i += 2 * pairs;
                      wide_strip<count>(part(i), b, {result.data + i * result.pitch, result.pitch},
                                        depth, width, from(i));
                    });
}

}  // namespace aligndraw::cpu
#endif
