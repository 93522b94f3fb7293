#include "packed.h"

#include "loop.h"
#include "round.h"

namespace aligndraw::cpu {
namespace {

// Panels of equal widths but for one strip, as many as all threads can share equally.
std::vector<int64_t> divided(int64_t strips, int64_t most) {
  const int64_t least = (strips + most - 1) / most;
  const int64_t threads = std::max<int64_t>(1, torch::stable::get_num_threads());
  const int64_t shared = (least + threads - 1) / threads * threads;
  const int64_t panels = least >= threads ? std::min(shared, strips) : least;
  std::vector<int64_t> first;
  for (int64_t i = 0; i <= panels; ++i) first.push_back(panels ? strips * i / panels : 0);
  return first;
}

}  // namespace

template <class Number>
Packed<Number>::Packed(Matrix<const Source> right, Isa isa, bool rounded)
    : isa_(isa),
      rounded_(rounded),
      rows_(right.rows),
      depth_((right.columns + in_k - 1) / in_k),
      first_strips_(divided((rows_ + strip - 1) / strip, gemm_kernels<Number>(isa).max_strips)),
      data_(first_strips_.back() * strip * depth_) {
  for_row_ranges(panels(), depth_ * strip * 4, [&, this](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel)
      for (int64_t s = 0; s < strips(panel); ++s)
        pack_strip(right, first_row(panel) + s * strip,
                   const_cast<Number*>(at(panel, 0)) + s * strip, strips(panel) * strip);
  });
}

// Rows `first` ... `first` + 15, each k of them `stride` apart.
template <class Number>
void Packed<Number>::pack_strip(Matrix<const Source> right, int64_t first, Number* to,
                                int64_t stride) const {
  const int64_t count = std::min(strip, right.rows - first), depth = right.columns;
  const Source* const from = right.data + first * right.row;
  for (int64_t k = 0; k < depth_; k += strip) {
    Number* const block = to + k * stride;
    const int64_t lines = std::min(strip, depth_ - k);
    const bool whole = count == strip && (k + strip) * in_k <= depth;
    if constexpr (std::is_same_v<Number, double>) {
      for (int64_t p = 0; p < lines; ++p)
        for (int64_t j = 0; j < strip; ++j)
          block[p * stride + j] = j < count ? from[j * right.row + (k + p) * right.column] : 0;
    } else {
      const Source* source = from + k * in_k * right.column;
      int64_t row = right.row, column = right.column;
      alignas(64) Source part[2 * strip * strip];
      if (!whole || (row != 1 && column != 1)) {
        constexpr int64_t width = in_k * strip;
        for (int64_t j = 0; j < strip; ++j)
          for (int64_t i = 0; i < width; ++i)
            part[j * width + i] =
                j < count && k * in_k + i < depth ? source[j * row + i * column] : 0;
        source = part, row = width, column = 1;
      }
      alignas(64) uint32_t packed[strip * strip];
      const uint32_t* lines_from = packed;
      int64_t lines_row = strip;
      if constexpr (std::is_same_v<Number, float>) {
        if (column == 1)
          transpose(reinterpret_cast<const uint32_t*>(source), row, packed, strip);
        else
          lines_from = reinterpret_cast<const uint32_t*>(source), lines_row = column;
      } else if (column == 1) {
        alignas(64) uint32_t by_rows[strip * strip];
        pack_rows(source, row, by_rows);
        transpose(by_rows, strip, packed, strip);
      } else {
        pack_columns(source, column, packed);
      }
      for (int64_t p = 0; p < lines; ++p) {
        std::memcpy(block + p * stride, lines_from + p * lines_row, strip * sizeof(Number));
        if constexpr (std::is_same_v<Number, float>)
          if (rounded_) round_row(block + p * stride, strip);
      }
    }
  }
}

template class Packed<float>;
template class Packed<double>;
template class Packed<Bf16Pair>;

}  // namespace aligndraw::cpu
