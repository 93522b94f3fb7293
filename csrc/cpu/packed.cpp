#include "packed.h"

#include <algorithm>

#include "loop.h"
#include "round.h"

namespace aligndraw::cpu {
namespace {

// Panels of equal widths but for one strip, as many as all threads can share equally.
std::vector<int64_t> divided(int64_t strips, int64_t most, int64_t threads) {
  const int64_t least = (strips + most - 1) / most;
  const int64_t shared = (least + threads - 1) / threads * threads;
  const int64_t panels = least >= threads ? std::min(shared, strips) : least;
  std::vector<int64_t> first;
  for (int64_t i = 0; i <= panels; ++i) first.push_back(panels ? strips * i / panels : 0);
  return first;
}

}  // namespace

template <class Number>
Packed<Number>::Packed(int64_t rows, int64_t columns, Isa isa, int64_t threads, Number* data)
    : isa_(isa),
      rounded_(false),
      rows_(rows),
      depth_((columns + in_k - 1) / in_k),
      first_strips_(
          divided((rows + strip - 1) / strip, gemm_kernels<Number>(isa).max_strips, threads)),
      data_(data) {}

template <class Number>
Packed<Number>::Packed(Matrix<const Source> right, Isa isa, bool rounded)
    : Packed(right.rows, right.columns, isa, thread_count(), nullptr) {
  rounded_ = rounded;
  own_.emplace(size(right.rows, right.columns));
  data_ = own_->data();
  pack(right);
}

template <class Number>
void Packed<Number>::pack(Matrix<const Source> right) {
  for_row_ranges(panels(), depth_ * strip * 4, [&, this](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
      for (int64_t k = 0; k < depth_; k += strip)
        for (int64_t s = 0; s < strips(panel); ++s)
          pack_square(right, first_row(panel) + s * strip, k,
                      const_cast<Number*>(at(panel, k)) + s * strip, strips(panel) * strip);
      spans()[panel] = span_of(panel);
    }
  });
}

// It reads the zeros at both ends, and no more: two k of a panel without zeros.
template <class Number>
Span Packed<Number>::span_of(int64_t panel) const {
  const auto is_zero = [&](int64_t k) {
    const Number* const numbers = at(panel, k);
    return std::all_of(numbers, numbers + strips(panel) * strip,
                       [](Number n) { return n == Number(0); });
  };
  Span span{0, depth_};
  while (span.first < span.end && is_zero(span.first)) ++span.first;
  while (span.first < span.end && is_zero(span.end - 1)) --span.end;
  return span;
}

// Rows `first` ... `first` + 15 and 16 k from k on; in the packed form each k is `stride` apart.
template <class Number>
void Packed<Number>::pack_square(Matrix<const Source> right, int64_t first, int64_t k, Number* to,
                                 int64_t stride) const {
  constexpr int64_t width = in_k * strip;
  const int64_t count = std::min(strip, right.rows - first), lines = std::min(strip, depth_ - k);
  const int64_t numbers = std::min(width, right.columns - k * in_k);
  const Source* source = right.data + first * right.row_stride + k * in_k * right.col_stride;
  int64_t row_stride = right.row_stride, col_stride = right.col_stride;
  alignas(64) Source part[width * strip];
  if (count < strip || numbers < width || (row_stride != 1 && col_stride != 1)) {
    std::fill_n(part, width * strip, Source(0));
    for (int64_t j = 0; j < count; ++j) {
      const Source* const row = source + j * row_stride;
      if (col_stride == 1)
        std::copy_n(row, numbers, part + j * width);
      else
        for (int64_t i = 0; i < numbers; ++i) part[j * width + i] = row[i * col_stride];
    }
    source = part, row_stride = width, col_stride = 1;
  } else if (col_stride == 1) {
    // The next panel's rows: all rows follow one another in memory, which no processor foresees.
    const int64_t ahead = std::min(stride, right.rows - first - strip);
    for (int64_t j = 0; j < strip; ++j) __builtin_prefetch(source + (ahead + j) * row_stride, 0, 2);
  }
  alignas(64) Number packed[strip * strip];
  // Whole squares of numbers of 32 bits go straight to their place.
  const bool is_whole = lines == strip && !rounded_;
  Number* const target = is_whole ? to : packed;
  const int64_t target_stride = is_whole ? stride : strip;
  if constexpr (std::is_same_v<Number, double>) {
    for (int64_t p = 0; p < strip; ++p)
      for (int64_t j = 0; j < strip; ++j)
        target[p * target_stride + j] = source[j * row_stride + p * col_stride];
  } else {
    auto* const bits = reinterpret_cast<uint32_t*>(target);
    if constexpr (std::is_same_v<Number, float>) {
      if (col_stride == 1)
        transpose(reinterpret_cast<const uint32_t*>(source), row_stride, bits, target_stride);
      else
        for (int64_t p = 0; p < strip; ++p)
          std::copy_n(source + p * col_stride, strip, target + p * target_stride);
      if (rounded_) round_row(packed, strip * strip);
    } else if (col_stride == 1) {
      alignas(64) uint32_t by_rows[strip * strip];
      pack_rows(source, row_stride, by_rows);
      transpose(by_rows, strip, bits, target_stride);
    } else {
      pack_columns(source, col_stride, reinterpret_cast<uint32_t*>(packed));
      if (is_whole)
        for (int64_t p = 0; p < strip; ++p) std::copy_n(packed + p * strip, strip, to + p * stride);
    }
  }
  if (is_whole) return;
  for (int64_t p = 0; p < lines; ++p) std::copy_n(packed + p * strip, strip, to + p * stride);
}

template class Packed<float>;
template class Packed<double>;
template class Packed<Bf16Pair>;

}  // namespace aligndraw::cpu
