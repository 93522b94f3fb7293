// What a loop's driver needs of PyTorch: memory, products of matrices, and launches that are checked.
// And which form a loop takes.
#pragma once
#include <cstdlib>
#include <string_view>
#include <vector>

#include "../gemm.h"
#include "fit.h"
#include "glue.h"
#include "loop.h"

namespace aligndraw::cuda {

// Whether all steps are one launch: where there is room as ALIGNDRAW_LOOP says, "launches" or
// "persistent", for comparisons, or by "auto" what the loop takes by itself.
inline bool takes_one_launch(const char* op, const Fit& fit, bool by_itself) {
  const char* const variable = std::getenv("ALIGNDRAW_LOOP");
  const std::string_view form = variable && *variable ? variable : "auto";
  if (form == "persistent" && fit.reason)
    fail(op, ": ALIGNDRAW_LOOP=persistent cannot be: ", fit.reason);
  if (form == "auto") return !fit.reason && by_itself;
  if (form != "launches" && form != "persistent")
    fail("ALIGNDRAW_LOOP must be auto, launches or persistent, got '", form, "'");
  return form == "persistent";
}

template <class T>
class Work {
 public:
  // `rounds` asks for products of float factors rounded to bfloat16's values.
  Work(const char* op, const Tensor& like, bool rounds)
      : op_(op), like_(like), device_(like), rounds_(rounds && sizeof(T) == sizeof(float)) {}

  // Uninitialised, until the end of the call.
  T* room(int64_t count) {
    kept_.push_back(torch::stable::new_empty(like_, {count}));
    return kept_.back().template mutable_data_ptr<T>();
  }

  CUstream_st* stream() const { return device_.stream(); }
  bool rounds() const { return rounds_; }
  void check(const char* error) const { check_launch(op_, error); }

  void copy(Rows<const T> from, Rows<T> to, int64_t rows, int64_t columns,
            bool rounded = false) const {
    check(launch_copy(from, to, rows, columns, rounded, stream()));
  }
  void zero(T* data, int64_t count) const { copy({}, {data}, 1, count); }
  void sum_rows(const T* data, int64_t pitch, int64_t rows, int64_t columns, T* result) const {
    check(launch_sum_rows(Rows<const T>{data, pitch}, rows, columns, result, stream()));
  }

  // The matrix, of contiguous rows or not, with its factors rounded in `room` where that is asked for.
  Matrix<const T> rounded(Matrix<const T> m, T* room) const {
    if (!rounds_) return m;
    copy({m.data, m.row}, {room, m.columns}, m.rows, m.columns, true);
    return matrix<const T>(room, m.rows, m.columns);
  }

  void multiply(Matrix<T> result, Matrix<const T> a, Matrix<const T> b, bool adds = false) const {
    aligndraw::multiply(result, a, b, adds, like_.device());
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

// The matrices that one state is multiplied with, one upon the other, so that one product serves all.
// Of the columns that come of them those in [exact, exact_end) are never rounded.
template <class T>
class Consumers {
 public:
  struct Part {
    const T* data;
    int64_t rows, pitch;
  };

  Consumers(Work<T>& work, int64_t units, std::initializer_list<Part> parts, int64_t exact = 0,
            int64_t exact_end = 0)
      : work_(work), units_(units), exact_(exact), exact_end_(exact_end) {
    for (const Part& part : parts) columns_ += part.rows;
    T* const weights = work.room(columns_ * units);
    weights_ = weights;
    int64_t row = 0;
    for (const Part& part : parts) {
      work.copy({part.data, part.pitch}, {weights + row * units, units}, part.rows, units);
      row += part.rows;
    }
    if (!work.rounds()) return;
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, exact}, {exact_end, columns_}})
      work.copy({weights + begin * units, units}, {weights + begin * units, units}, end - begin,
                units, true);
  }

  int64_t columns() const { return columns_; }

  // result [rows, columns] = state [rows, units] times the matrices; `room` is for as many states.
  void forward(T* result, const T* state, int64_t rows, T* room) const {
    const auto part = [&](Matrix<const T> states, int64_t begin, int64_t end) {
      if (begin == end) return;
      work_.multiply(Matrix<T>{result + begin, rows, end - begin, columns_}, states,
                     matrix(weights_ + begin * units_, end - begin, units_).transposed());
    };
    const auto states = matrix(state, rows, units_);
    if (!work_.rounds()) return part(states, 0, columns_);
    const auto rounded = work_.rounded(states, room);
    part(rounded, 0, exact_);
    part(states, exact_, exact_end_);
    part(rounded, exact_end_, columns_);
  }

  // The state's gradient [rows, units], given those of the columns.
  void backward(T* state, const T* grads, int64_t rows, T* room) const {
    work_.multiply(matrix(state, rows, units_),
                   work_.rounded(matrix(grads, rows, columns_), room),
                   matrix(weights_, columns_, units_));
  }

 private:
  Work<T>& work_;
  int64_t units_, exact_, exact_end_, columns_ = 0;
  const T* weights_;
};

}  // namespace aligndraw::cuda
