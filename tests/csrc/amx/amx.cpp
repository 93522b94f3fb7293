// Products of csrc/cpu/tiles.h for test_amx.py. Each function returns an error's text, or null.
#include <string>

#include "cpu/factor.h"

using namespace aligndraw::cpu;

namespace {

template <class F>
const char* text_of_error(const F& run) {
  static std::string text;
  try {
    run();
    return nullptr;
  } catch (const std::exception& error) {
    text = error.what();
    return text.c_str();
  }
}

}  // namespace

extern "C" {
__attribute__((visibility("default"))) int64_t found_isa() { return best_isa_number(); }

// result [m, n] = left [m, k] rightᵀ [n, k] of rounded factors, or with `accumulate` += it. The
// right factor's rows are contiguous. With `split` > 0 the sum over k is formed of two terms.
__attribute__((visibility("default"))) const char* tiles_product(
    int64_t isa, float* result, int64_t result_stride, const float* left, int64_t row_stride,
    int64_t col_stride, const float* right, int64_t m, int64_t n, int64_t k, bool accumulate,
    int64_t split) {
  return text_of_error([&] {
    const aligndraw::Matrix<const float> of_left{left, m, k, row_stride, col_stride};
    const auto of_right = aligndraw::matrix(right, n, k);
    const aligndraw::Matrix<float> to{result, m, n, result_stride};
    const auto tiles = [](Tiles::Side side, const auto& matrix, int64_t first, int64_t count) {
      return Tiles(side, matrix.columns_from(first, count));
    };
    const int64_t first = split ? split : k;
    const Tiles a = tiles(Tiles::Side::left, of_left, 0, first);
    const Tiles b = tiles(Tiles::Side::right, of_right, 0, first);
    if (!split) return multiply(to, {{a, b}}, accumulate, Isa(isa));
    const Tiles c = tiles(Tiles::Side::left, of_left, split, k - split);
    const Tiles d = tiles(Tiles::Side::right, of_right, split, k - split);
    multiply(to, {{a, b}, {c, d}}, accumulate, Isa(isa));
  });
}

// The same as two products of one list: an exact one, and one of rounded factors that adds to it.
__attribute__((visibility("default"))) const char* exact_then_rounded(float* result,
                                                                      const float* left,
                                                                      const float* right, int64_t m,
                                                                      int64_t n, int64_t k) {
  return text_of_error([&] {
    const auto a = aligndraw::matrix(left, m, k), b = aligndraw::matrix(right, n, k);
    const auto to = aligndraw::matrix(result, m, n);
    const Left<float> unrounded_left(a, false, Isa::portable), rounded_left(a, true, Isa::amx);
    const Right<float> unrounded_right(b, false, Isa::portable), rounded_right(b, true, Isa::amx);
    multiply<float>(
        {{to, unrounded_left, unrounded_right}, {to, rounded_left, rounded_right, true}}, 1);
  });
}
}
