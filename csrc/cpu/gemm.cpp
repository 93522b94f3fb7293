// The driver of the kernels: which part of a product is formed by which thread, and in which order.
#include <span>

#include "factor.h"
#include "left_block.h"
#include "loop.h"

namespace aligndraw::cpu {
namespace {

// Rows whose left factor and results stay in a core's cache while the panels pass by.
constexpr int64_t most_rows = 128;
// Operations that are worth a thread's start.
constexpr int64_t least_work = 1 << 18;

// What one thread forms of a product: all rows of left and result by a share of the panels.
struct Share {
  int64_t number, count;
};

template <class T>
using Products = std::span<const Product<T>>;

// The right factor of a product where its numbers are Numbers.
template <class Number>
const std::optional<Packed<Number>>& packed(const Right<Sum<Number>>& right) {
  if constexpr (std::is_same_v<Number, Bf16Pair>)
    return right.pairs;
  else
    return right.numbers;
}

// How many of the products, from the first on, have its left factor and results of their own: they
// share what left_block() makes of it.
template <class T>
size_t sharing_left(Products<T> products) {
  const Product<T>& first = products.front();
  size_t count = 1;
  while (count < products.size() && &products[count].left == &first.left &&
         !products[count].accumulate &&
         products[count].right.pairs.has_value() == first.right.pairs.has_value())
    ++count;
  return count;
}

// Some rows of products with one left factor, by a share of each right factor's panels.
template <class Number>
void multiply_share(Products<Sum<Number>> products, int64_t first_row, int64_t rows,
                    const Share& share) {
  static thread_local const Buffer<Number> workspace(most_rows * Packed<Number>::most_depth);
  const auto left = products.front().left.matrix.rows_from(first_row, rows);
  const Packed<Number>& first = *packed<Number>(products.front().right);
  const GemmKernels<Number>& kernels = gemm_kernels<Number>(first.isa());
  for (int64_t b = 0; b < first.blocks(); ++b) {  // the depth alone decides on the blocks
    const int64_t k = first.first_of_block(b), depth = first.first_of_block(b + 1) - k;
    const auto block = left_block(left, k, depth, first.rounded(), workspace.data());
    for (const Product<Sum<Number>>& product : products) {
      const Packed<Number>& right = *packed<Number>(product.right);
      const auto result = product.result.rows_from(first_row, rows);
      const int64_t begin = right.panels() * share.number / share.count;
      const int64_t end = right.panels() * (share.number + 1) / share.count;
      const auto part_of = [&](int64_t panel) -> Span {
        const Span& span = right.span(panel);
        const int64_t from = std::clamp(span.first, k, k + depth);
        return {from, std::clamp(span.end, from, k + depth)};
      };
      Span part = begin < end ? part_of(begin) : Span{};
      for (int64_t panel = begin; panel < end; ++panel) {
        const int64_t column = right.first_row(panel), strips = right.strips(panel);
        const bool accumulate = product.accumulate || b > 0, is_last = panel + 1 == end;
        const Span next = is_last ? Span{k, k} : part_of(panel + 1);
        if (part.first < part.end || !accumulate)
          kernels.of_strips[strips](
              {block.data + (part.first - k) * block.col_stride, block.row_stride, block.col_stride,
               left.rows, right.at(panel, part.first), part.end - part.first, result.data + column,
               result.row_stride, std::min(strips * strip, result.columns - column), accumulate,
               right.at(panel + !is_last, next.first), right.at(panel + !is_last, next.end)});
        part = next;
      }
    }
  }
  if (first.depth() > 0 || share.number > 0) return;
  for (const Product<Sum<Number>>& product : products) {
    const auto result = product.result.rows_from(first_row, rows);
    for (int64_t i = 0; !product.accumulate && i < result.rows; ++i)
      std::fill_n(result.data + i * result.row_stride, result.columns, Sum<Number>(0));
  }
}

// Products by AMX, by a driver of their own.
void multiply_by_tiles(Products<float> products) {
  for (size_t i = 0; i < products.size(); ++i) {
    const Product<float>& p = products[i];
    const Term term{*p.left.tiles, *p.right.tiles};
    const Product<float>* const next = i + 1 < products.size() ? &products[i + 1] : nullptr;
    if (next && next->accumulate && next->result.data == p.result.data) {
      multiply(p.result, {term, {*next->left.tiles, *next->right.tiles}}, p.accumulate, Isa::amx);
      ++i;
    } else {
      multiply(p.result, {term}, p.accumulate, Isa::amx);
    }
  }
}

template <class T>
void multiply_by_panels(Products<T> products, int64_t threads) {
  const int64_t rows = products.front().left.matrix.rows;
  int64_t work = 0;
  for (const Product<T>& p : products)
    work += 2 * rows * p.right.rows * std::max<int64_t>(1, p.right.columns);
  if (work == 0) return;
  threads = std::clamp<int64_t>(threads, 1, std::max<int64_t>(1, work / least_work));
  // By rows first, as far as they fill the registers; then by panels.
  const int64_t enough = std::max<int64_t>(1, (rows + most_rows - 1) / most_rows);
  const int64_t row_parts = enough < threads ? enough : (enough + threads - 1) / threads * threads;
  const int64_t shares = (threads + row_parts - 1) / row_parts;
  const auto multiply_parts = [&](int64_t begin, int64_t end) {
    const FlushSubnormals flush;
    for (int64_t part = begin; part < end; ++part) {
      const Share share{part % shares, shares};
      const int64_t i = part / shares, first = rows * i / row_parts;
      const int64_t count = rows * (i + 1) / row_parts - first;
      for (Products<T> rest = products; !rest.empty();) {
        const Products<T> some = rest.first(sharing_left(rest));
        if constexpr (std::is_same_v<T, float>)
          if (some.front().right.pairs) multiply_share<Bf16Pair>(some, first, count, share);
        if (some.front().right.numbers) multiply_share<T>(some, first, count, share);
        rest = rest.subspan(some.size());
      }
    }
  };
  if (threads == 1)
    multiply_parts(0, row_parts * shares);
  else
    parallel_for(0, row_parts * shares, 1, multiply_parts);
}

}  // namespace

template <class T>
void multiply(std::initializer_list<Product<T>> products, int64_t threads) {
  for (auto begin = products.begin(); begin != products.end();) {
    const bool tiled = begin->right.tiles.has_value();
    const auto end = std::find_if(begin, products.end(), [tiled](const Product<T>& p) {
      return p.right.tiles.has_value() != tiled;
    });
    if constexpr (std::is_same_v<T, float>)
      if (tiled) multiply_by_tiles({begin, end});
    if (!tiled) multiply_by_panels<T>({begin, end}, threads);
    begin = end;
  }
}

template void multiply(std::initializer_list<Product<float>>, int64_t);
template void multiply(std::initializer_list<Product<double>>, int64_t);

}  // namespace aligndraw::cpu
