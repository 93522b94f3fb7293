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

// See check_count() of glue.h.
inline void check_counts(const char* op, const UnrollSizes& s) {
  if (s.tints) fail(op, ": tints must be 0 on a GPU, got ", s.tints);
  if (s.opacity) fail(op, ": opacity must be false on a GPU, got true");
  check_counts(op, GlimpseSizes{s.batch, s.channels, s.height, s.width, s.read_size});
  check_counts(op, GlimpseSizes{s.batch, s.channels, s.height, s.width, s.write_size});
  check_count(op, "the latents of all steps", {s.steps, s.batch});
  check_count(op, "the noise of a caption", {s.steps, s.latents});
  check_count(op, "the keys of a caption", {s.words, s.units});
  check_count(op, "the words of a caption", {s.words, s.word_size});
  check_count(op, "the word gates of a caption", {s.words, 4 * s.decoder});
  check_count(op, "the products with a state",
              {s.heads() + 4 * s.encoder + 4 * s.decoder + s.encoder_in()});
}

// A GEMM operand: as it is, and where the product rounds also rounded to bfloat16.
template <class T>
struct Operand {
  Matrix<const T> unrounded{};
  Matrix<const BFloat16> rounded{};  // of null where nothing is rounded

  int64_t rows() const { return unrounded.rows; }
  int64_t columns() const { return unrounded.columns; }
  Operand transposed() const { return {unrounded.transposed(), rounded.transposed()}; }
  Operand rows_from(int64_t first, int64_t count) const {
    return {unrounded.rows_from(first, count),
            rounded.data ? rounded.rows_from(first, count)
                         : Matrix<const BFloat16>{nullptr, count, columns(), columns()}};
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

  // The same for rounded rows, padded(columns) apart; null where nothing is rounded.
  uint16_t* allocate_rounded(int64_t rows, int64_t columns) {
    if (!rounds_) return nullptr;
    kept_.push_back(
        torch::stable::new_empty(like_, {rows * padded(columns)}, ScalarType::BFloat16));
    return reinterpret_cast<uint16_t*>(kept_.back().template mutable_data_ptr<BFloat16>());
  }

  // Rows that products read, padded(columns) apart.
  OperandRows<T> allocate_operand(int64_t rows, int64_t columns) {
    return {allocate(rows * padded(columns)), padded(columns), allocate_rounded(rows, columns),
            padded(columns)};
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

  // Rounds the rows into `rounded`, from allocate_rounded(); zeros where `from` is null.
  void round(Rows<const T> from, uint16_t* rounded, int64_t rows, int64_t columns) const {
    if constexpr (std::is_same_v<T, float>)
      if (rounds_) check(launch_round(from, {rounded, padded(columns)}, rows, columns, stream()));
  }

  // Rows that are rounded already, as an operand.
  Operand<T> operand(OperandRows<T> of, int64_t rows, int64_t columns) const {
    return {{of.data, rows, columns, of.row_stride},
            {reinterpret_cast<const BFloat16*>(of.rounded), rows, columns, of.rounded_stride}};
  }
  // The matrix, with rows of consecutive numbers, as an operand: rounded here where the call
  // rounds.
  Operand<T> operand(Matrix<const T> m) {
    uint16_t* const rounded = allocate_rounded(m.rows, m.columns);
    round({m.data, m.row_stride}, rounded, m.rows, m.columns);
    return {m, {reinterpret_cast<const BFloat16*>(rounded), m.rows, m.columns, padded(m.columns)}};
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
//   weights [columns, units]   of h_dec: decoder_hh, encoder_ih, heads
//                              of h_enc: encoder_hh, posterior
//
// The products of the last `unrounded` rows are never of rounded operands.
template <class T>
class StackedWeights {
 public:
  struct WeightSlice {
    const T* data;
    int64_t rows, row_stride;
  };

  StackedWeights(Work<T>& work, int64_t units, std::initializer_list<WeightSlice> parts,
                 int64_t unrounded = 0)
      : work_(work) {
    int64_t rows = 0;
    for (const WeightSlice& part : parts) rows += part.rows;
    T* const all = work.allocate(rows * units);
    rows = 0;
    for (const WeightSlice& part : parts) {
      work.copy({part.data, part.row_stride}, {all + rows * units, units}, part.rows, units);
      rows += part.rows;
    }
    weights_ = work.operand(matrix<const T>(all, rows, units));
    rounded_ = work.rounds() ? rows - unrounded : 0;
  }

  int64_t columns() const { return weights_.rows(); }
  int64_t row_stride() const { return padded(columns()); }

  // result [rows, columns], row_stride() apart, = state [rows, units] times the weights.
  void forward(T* result, const Operand<T>& state) const {
    const Matrix<T> results{result, state.rows(), columns(), row_stride()};
    if (rounded_ > 0)
      work_.multiply(results.columns_from(0, rounded_), state,
                     weights_.rows_from(0, rounded_).transposed());
    const int64_t others = columns() - rounded_;
    if (others > 0)
      work_.multiply(results.columns_from(rounded_, others), state.unrounded,
                     weights_.unrounded.rows_from(rounded_, others).transposed());
  }

  // The gradient of the state [rows, units] from those of its products [rows, columns].
  void backward(T* state, const Operand<T>& grads) const {
    work_.multiply(matrix(state, grads.rows(), weights_.columns()), grads, weights_);
  }

 private:
  Work<T>& work_;
  Operand<T> weights_{};
  int64_t rounded_;  // products of rounded operands come first
};

}  // namespace aligndraw::cuda
