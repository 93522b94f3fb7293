// A patch over the canvas, one row of the batch at a time. aligndraw/ops/cover.py has the formula.
#pragma once
#include "../unroll_sizes.h"
#include "write.h"

namespace aligndraw::cpu {

template <class T>
struct CoverWorkspace {
  explicit CoverWorkspace(const UnrollSizes& s)
      : write(s.channels + 1, s.height, s.width, s.write_size) {
    std::fill_n(blank.data(), (write.channels * write.area), T(0));
  }

  int64_t patch_volume() const { return write.channels * write.size * write.size; }

  WriteWorkspace<T> write;
  const Buffer<T> patch{patch_volume()};  // with the opacity times gamma delta^2
  const Buffer<T> blank{write.channels * write.area}, drawn{write.channels * write.area};
};

template <class T>
struct CoverBackwardWorkspace {
  explicit CoverBackwardWorkspace(const UnrollSizes& s)
      : forward(s), write(s.channels + 1, s.height, s.width, s.write_size) {}

  CoverWorkspace<T> forward;
  WriteBackwardWorkspace<T> write;
  const Buffer<T> grad{forward.write.channels * write.area};
};

// result = the canvas under the patch [channels + 1, size, size], whose last channel is its
// opacity. `result` may be `canvas`.
template <class T>
void cover_row(CoverWorkspace<T>& workspace, const T* patch, const T* window, const T* canvas,
               T* result);

// The gradients of patch and window. That of the result becomes that of the canvas.
template <class T>
void cover_backward_row(CoverBackwardWorkspace<T>& workspace, T* grad, const T* patch,
                        const T* window, const T* canvas, T* grad_patch, T* grad_window);

}  // namespace aligndraw::cpu
