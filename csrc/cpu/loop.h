// What the unrolled loops share: parts of a batch, and operations on rows.
#pragma once
#include <memory>
#include <vector>

#include "../gemm.h"
#include "cpu.h"

namespace aligndraw::cpu {

// row += other
void add_row(float* row, const float* other, int64_t n);
void add_row(double* row, const double* other, int64_t n);
// row = tanh(row)
void tanh_row(float* row, int64_t n);
void tanh_row(double* row, int64_t n);

// Rows of a batch that go through a loop together: by one thread, or by all threads with a barrier
// after each stage.
template <class Workspace>
class Part {
 public:
  Part(int64_t first, int64_t count, const std::unique_ptr<Workspace>* workspaces, int64_t threads)
      : first(first), count(count), threads(threads), workspaces_(workspaces) {}

  const int64_t first, count, threads;

  // Calls work(workspace, b) for each row b.
  template <class F>
  void each(const F& work) const {
    const auto run = [&](int64_t begin, int64_t end) {
      const FlushSubnormals flush;
      for (int64_t i = begin; i < end; ++i)
        for (int64_t b = count * i / threads; b < count * (i + 1) / threads; ++b)
          work(*workspaces_[i], first + b);
    };
    if (threads == 1)
      run(0, 1);
    else
      torch::stable::parallel_for(0, threads, 1, run);
  }

  // These rows of an array [B, columns], as a matrix.
  template <class T>
  Matrix<T> of(T* data, int64_t columns) const {
    return matrix(data + first * columns, count, columns);
  }

 private:
  const std::unique_ptr<Workspace>* workspaces_;
};

// A batch in parts, with a workspace for each of torch's threads. No row's result depends on others,
// so that each thread takes its rows through the whole loop without waiting. Where a thread would have
// few rows, which would not pay for reading all weights, the threads share the work of each stage.
template <class Workspace>
class Partition {
 public:
  template <class Make>
  Partition(int64_t batch, const Make& make) : batch_(batch) {
    const int64_t most = std::max<int64_t>(1, torch::stable::get_num_threads());
    for (int64_t i = 0; i < std::clamp<int64_t>(batch, 1, most); ++i) workspaces_.push_back(make());
    shares_stages_ = batch < most * few_rows;
    threads_ = most;
  }

  // Calls run(part) for all parts.
  template <class F>
  void each_part(const F& run) const {
    if (threads_ == 1 || shares_stages_)
      return run(Part<Workspace>(0, batch_, workspaces_.data(), int64_t(workspaces_.size())));
    torch::stable::parallel_for(0, threads_, 1, [&](int64_t begin, int64_t end) {
      const FlushSubnormals flush;
      for (int64_t i = begin; i < end; ++i) {
        const int64_t first = batch_ * i / threads_, count = batch_ * (i + 1) / threads_ - first;
        run(Part<Workspace>(first, count, &workspaces_[i], 1));
      }
    });
  }

 private:
  static constexpr int64_t few_rows = 8;

  int64_t batch_, threads_;
  bool shares_stages_;
  std::vector<std::unique_ptr<Workspace>> workspaces_;
};

}  // namespace aligndraw::cpu
