// read and write of one image, and their gradients: the kernels of each ISA.
#pragma once
#include "isa.h"
#include "product.h"
#include "read.h"
#include "write.h"

namespace aligndraw::cpu {

template <class T>
struct GlimpseKernels {
  void (*multiply)(const StridedView<T>& a, Rows<const T> b, Rows<T> result, int64_t rows,
                   int64_t depth, int64_t width, const T* start);  // product()
  void (*read)(ReadWorkspace<T>&, const Image<T>&, T* result);
  void (*read_backward)(ReadBackwardWorkspace<T>&, const Image<T>&, const T* grad,
                        const ImageGrads<T>&);
  void (*write)(WriteWorkspace<T>&, const T* patch, const T* window, const T* canvas, T* result);
  void (*write_backward)(WriteBackwardWorkspace<T>&, const T* grad, const T* patch, const T* window,
                         T* grad_patch, T* grad_window);
};

// Those of an ISA, or of the last ISA before it that has some.
template <class T>
const GlimpseKernels<T>& glimpse_kernels(Isa isa);

// What glimpse_kernels chooses from; null where the compiler does not know the ISA.
const GlimpseKernels<float>* avx2_glimpse();
const GlimpseKernels<float>* avx512_glimpse();

}  // namespace aligndraw::cpu
