// What the unrolled loops share: threads that keep their workshops, and the rows' small change.
#pragma once
#include <memory>
#include <vector>

#include "cpu.h"

namespace aligndraw::cpu {

// row += other
void add_row(float* row, const float* other, int64_t n);
void add_row(double* row, const double* other, int64_t n);
// row = tanh(row)
void tanh_row(float* row, int64_t n);
void tanh_row(double* row, int64_t n);

// Work on the rows of a batch by torch's threads, each with a workshop of its own.
template <class Workshop>
class Team {
 public:
  template <class Make>
  Team(int64_t batch, const Make& make) : batch_(batch) {
    const int64_t most = std::max<int64_t>(1, torch::stable::get_num_threads());
    for (int64_t i = 0; i < std::clamp<int64_t>(batch, 1, most); ++i) workshops_.push_back(make());
  }

  template <class F>
  void each(const F& work) const {
    const int64_t count = int64_t(workshops_.size());
    parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      const FlushSubnormals flush;
      for (int64_t i = begin; i < end; ++i)
        for (int64_t b = batch_ * i / count; b < batch_ * (i + 1) / count; ++b)
          work(*workshops_[i], b);
    });
  }

 private:
  int64_t batch_;
  std::vector<std::unique_ptr<Workshop>> workshops_;
};

}  // namespace aligndraw::cpu
