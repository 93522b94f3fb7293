// Parts of the loops: the partition of a batch over threads, and operations on rows.
#pragma once
#include <memory>
#include <vector>

#include "../gemm.h"
#include "cpu.h"

namespace aligndraw::cpu {

// row += other
ALIGNDRAW_HAS_CLONES void add_row(float* row, const float* other, int64_t n);
void add_row(double* row, const double* other, int64_t n);
// row = tanh(row)
ALIGNDRAW_HAS_CLONES void tanh_row(float* row, int64_t n);
void tanh_row(double* row, int64_t n);
// row = sigmoid(row)
ALIGNDRAW_HAS_CLONES void sigmoid_row(float* row, int64_t n);
void sigmoid_row(double* row, int64_t n);

// Brings a row into the core's cache while other work goes on. It may lie behind the end of an
// array.
template <class T>
void fetch_row(const T* row, int64_t n) {
  constexpr int64_t line = 64 / sizeof(T);
  for (int64_t j = 0; j < n; j += line) __builtin_prefetch(row + j, 0, 2);
}

// Rows of a batch that go through a loop together. One thread takes them, or all threads with a
// barrier after each stage.
template <class Workspace>
class BatchPart {
 public:
  BatchPart(int64_t first, int64_t count, int64_t threads,
            const std::unique_ptr<Workspace>* workspaces, int64_t workspace_count)
      : first(first),
        count(count),
        threads(threads),
        workspaces_(workspaces),
        workspace_count_(workspace_count) {}

  const int64_t first, count, threads;

  // Calls work(workspace, b) for each row b.
  template <class F>
  void each(const F& work) const {
    const auto run = [&](int64_t begin, int64_t end) {
      const FlushSubnormals flush;
      for (int64_t i = begin; i < end; ++i)
        for (int64_t b = count * i / workspace_count_; b < count * (i + 1) / workspace_count_; ++b)
          work(*workspaces_[i], first + b);
    };
    if (workspace_count_ == 1)
      run(0, 1);
    else
      parallel_for(0, workspace_count_, 1, run);
  }

  // These rows of an array [B, columns], as a matrix.
  template <class T>
  Matrix<T> of(T* data, int64_t columns) const {
    return matrix(data + first * columns, count, columns);
  }

 private:
  const std::unique_ptr<Workspace>* workspaces_;
  const int64_t workspace_count_;
};

// The partition of a batch over torch's threads, with a workspace per thread. No row's result
// depends on other rows, so each thread takes its rows through the whole loop without waiting. A
// thread with few rows would spend its time on reading the weights. There the threads share each
// stage.
template <class Workspace>
class Partition {
 public:
  template <class Make>
  Partition(int64_t batch, const Make& make) : batch_(batch) {
    const int64_t count = std::clamp<int64_t>(batch, 1, threads_);
    for (int64_t i = 0; i < count; ++i) workspaces_.push_back(make());
  }

  // Calls run(part) for all parts.
  template <class F>
  void each_part(const F& run) const {
    if (batch_ < threads_ * few_rows)
      return run(BatchPart<Workspace>(0, batch_, threads_, workspaces_.data(),
                                      int64_t(workspaces_.size())));
    parallel_for(0, threads_, 1, [&](int64_t begin, int64_t end) {
      const FlushSubnormals flush;
      for (int64_t i = begin; i < end; ++i) {
        const int64_t first = batch_ * i / threads_, count = batch_ * (i + 1) / threads_ - first;
        run(BatchPart<Workspace>(first, count, 1, &workspaces_[i], 1));
      }
    });
  }

 private:
  static constexpr int64_t few_rows = 8;

  const int64_t batch_, threads_ = thread_count();
  std::vector<std::unique_ptr<Workspace>> workspaces_;
};

}  // namespace aligndraw::cpu
