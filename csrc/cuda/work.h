// What the drivers of the loops call: PyTorch's memory, matrix products and checked launches; and
// the choice among the three forms of a loop.
#pragma once
#include <cstdlib>
#include <optional>
#include <string_view>
#include <vector>

#include "../gemm.h"
#include "launch_grid.h"
#include "glue.h"
#include "loop.h"

namespace aligndraw::cuda {

// The form of a loop. ALIGNDRAW_LOOP forces one, for comparisons.
enum class LoopForm { automatic, launches, persistent, cluster };

inline LoopForm loop_form() {
  const char* const variable = std::getenv("ALIGNDRAW_LOOP");
  const std::string_view form = variable && *variable ? variable : "auto";
  if (form == "auto") return LoopForm::automatic;
  if (form == "launches") return LoopForm::launches;
  if (form == "persistent") return LoopForm::persistent;
  if (form == "cluster") return LoopForm::cluster;
  fail("ALIGNDRAW_LOOP must be auto, launches, persistent or cluster, got '", form, "'");
}

// Returns the grid of one launch for all steps, or nothing where the loop takes another form.
// "auto" takes one launch where it does so `by_itself` and make_grid() finds enough shared memory.
template <class MakeGrid>
std::optional<LaunchGrid> one_launch(const char* op, bool by_itself, const MakeGrid& make_grid) {
  const bool forced = loop_form() == LoopForm::persistent;
  if (!forced && (loop_form() != LoopForm::automatic || !by_itself)) return {};
  const LaunchGrid grid = make_grid();
  if (!grid.reason) return grid;
  if (forced) fail(op, ": ALIGNDRAW_LOOP=persistent cannot be: ", grid.reason);
  return {};
}

// The same for clusters of blocks, which no loop takes by itself: no GPU has shown them to be
// faster.
template <class MakeGrid>
std::optional<LaunchGrid> clusters(const char* op, const MakeGrid& make_grid) {
  if (loop_form() != LoopForm::cluster) return {};
  const LaunchGrid grid = make_grid();
  if (grid.reason) fail(op, ": ALIGNDRAW_LOOP=cluster cannot be: ", grid.reason);
  return grid;
}

// A GEMM operand: as it is, or rounded to bfloat16.
template <class T>
struct Operand {
  Matrix<const T> unrounded;
  Matrix<const BFloat16> rounded;
  bool is_rounded;

  int64_t rows() const { return is_rounded ? rounded.rows : unrounded.rows; }
  int64_t columns() const { return is_rounded ? rounded.columns : unrounded.columns; }
  Operand transposed() const { return {unrounded.transposed(), rounded.transposed(), is_rounded}; }
  Operand rows_from(int64_t first, int64_t count) const {
    return of([&](const auto& m) { return m.rows_from(first, count); });
  }
  Operand columns_from(int64_t first, int64_t count) const {
    return of([&](const auto& m) { return m.columns_from(first, count); });
  }

 private:
  template <class Select>
  Operand of(const Select& select) const {
    return is_rounded ? Operand{{}, select(rounded), true} : Operand{select(unrounded), {}, false};
  }
};

template <class T>
class Work {
 public:
  // With `rounds`, the operands of large float products are rounded to bfloat16.
  Work(const char* op, const Tensor& like, bool rounds)
      : op_(op), like_(like), device_(like), rounds_(rounds && sizeof(T) == sizeof(float)) {}

  // Uninitialised memory, which lives until the end of the call.
  T* allocate(int64_t count) {
    kept_.push_back(torch::stable::new_empty(like_, {count}));
    return kept_.back().template mutable_data_ptr<T>();
  }

  // The same for `count` rounded numbers; null where nothing is rounded.
  BFloat16* allocate_rounding(int64_t count) {
    if (!rounds_) return nullptr;
    kept_.push_back(torch::stable::new_empty(like_, {count}, ScalarType::BFloat16));
    return kept_.back().template mutable_data_ptr<BFloat16>();
  }

  CUstream_st* stream() const { return device_.stream(); }
  bool rounds() const { return rounds_; }
  void check(const char* error) const { check_launch(op_, error); }

  void copy(Rows<const T> from, Rows<T> to, int64_t rows, int64_t columns) const {
    check(launch_copy(from, to, rows, columns, stream()));
  }
  void zero(T* data, int64_t count) const { copy({}, {data}, 1, count); }
  void sum_rows(const T* data, int64_t row_stride, int64_t rows, int64_t columns, T* result) const {
    check(launch_sum_rows(Rows<const T>{data, row_stride}, rows, columns, result, stream()));
  }

  // The matrix as an operand. Where the call rounds, `rounding` holds the rounded numbers.
  Operand<T> operand(Matrix<const T> m, BFloat16* rounding) const {
    if constexpr (std::is_same_v<T, float>)
      if (rounds_) {
        check(launch_round({m.data, m.row_stride}, rounding, m.rows, m.columns, stream()));
        return {{}, matrix<const BFloat16>(rounding, m.rows, m.columns), true};
      }
    return {m, {}, false};
  }
  Operand<T> operand(Matrix<const T> m) {
    return operand(m, allocate_rounding(m.rows * m.columns));
  }

  void multiply(Matrix<T> result, Matrix<const T> a, Matrix<const T> b,
                bool accumulate = false) const {
    aligndraw::multiply(result, a, b, accumulate, like_.device());
  }
  void multiply(Matrix<T> result, const Operand<T>& a, const Operand<T>& b) const {
    if constexpr (std::is_same_v<T, float>)
      if (rounds_) return aligndraw::multiply(result, a.rounded, b.rounded, like_.device());
    multiply(result, a.unrounded, b.unrounded);
  }
  void multiply(Matrices<T> result, Matrices<const T> a, Matrices<const T> b) const {
    aligndraw::multiply(result, a, b, like_.device());
  }

 private:
  const char* op_;
  const Tensor like_;
  const OnDeviceOf device_;
  const bool rounds_;
  std::vector<Tensor> kept_;
};

// All weights that one state is multiplied with, stacked by rows, so that one product is enough:
//
//   weights [columns, units]   of h_dec: heads, encoder_ih, decoder_hh
//                              of h_enc: posterior, encoder_hh
//
// The products of the rows in [unrounded, unrounded_end) are never of rounded operands.
template <class T>
class StackedWeights {
 public:
  struct WeightSlice {
    const T* data;
    int64_t rows, row_stride;
  };

  StackedWeights(Work<T>& work, int64_t units, std::initializer_list<WeightSlice> parts,
                 int64_t unrounded = 0, int64_t unrounded_end = 0)
      : work_(work), unrounded_(unrounded), unrounded_end_(unrounded_end) {
    int64_t rows = 0;
    for (const WeightSlice& part : parts) rows += part.rows;
    T* const all = work.allocate(rows * units);
    rows = 0;
    for (const WeightSlice& part : parts) {
      work.copy({part.data, part.row_stride}, {all + rows * units, units}, part.rows, units);
      rows += part.rows;
    }
    weights_ = matrix<const T>(all, rows, units);
    operand_ = work.operand(weights_);
  }

  int64_t columns() const { return weights_.rows; }

  // result [rows, columns] = state [rows, units] times the weights; `rounding` has the size of the
  // states.
  void forward(T* result, const T* state, int64_t rows, BFloat16* rounding) const {
    const auto states = matrix(state, rows, weights_.columns);
    const auto results = matrix(result, rows, columns());
    const Operand<T> operand = work_.operand(states, rounding);
    if (!work_.rounds()) return work_.multiply(results, operand, operand_.transposed());
    for (const auto& [from, end] :
         {std::pair<int64_t, int64_t>{0, unrounded_}, {unrounded_end_, columns()}})
      if (from < end)
        work_.multiply(results.columns_from(from, end - from), operand,
                       operand_.rows_from(from, end - from).transposed());
    if (unrounded_ < unrounded_end_)
      work_.multiply(results.columns_from(unrounded_, unrounded_end_ - unrounded_), states,
                     weights_.rows_from(unrounded_, unrounded_end_ - unrounded_).transposed());
  }

  // The gradient of the state [rows, units] from those of its products [rows, columns].
  void backward(T* state, const T* grads, int64_t rows, BFloat16* rounding) const {
    work_.multiply(matrix(state, rows, weights_.columns),
                   work_.operand(matrix(grads, rows, columns()), rounding), operand_);
  }

 private:
  Work<T>& work_;
  int64_t unrounded_, unrounded_end_;
  Matrix<const T> weights_{};
  Operand<T> operand_{};
};

}  // namespace aligndraw::cuda
