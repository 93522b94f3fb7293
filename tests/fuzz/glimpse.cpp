// libFuzzer: read and write of one image with its gradients, of any sizes, windows and numbers, by
// the portable kernels and those of AVX2. Of calm numbers every result is written, and finite.
#include "cpu/glimpse_kernels.h"
#include "kernels.h"

using namespace aligndraw::cpu;

// AVX-512's file takes minutes to compile with the sanitizers, and is no part of this program.
const GlimpseKernels<float>* aligndraw::cpu::avx512_glimpse() { return nullptr; }

namespace {

struct Sizes {
  int64_t channels, height, width, size;
  bool calm;

  int64_t volume() const { return channels * height * width; }
  int64_t patch() const { return channels * size * size; }
};

// Windows of calm numbers lie anywhere, on the image and off it.
template <class T>
void read(Bytes& in, const GlimpseKernels<T>& kernels, const Sizes& s) {
  const bool with_canvas = in.number(0, 1), wants_image = in.number(0, 1);
  const int64_t count = with_canvas ? 2 * s.patch() : s.patch();
  const auto image = in.reals<T>(s.volume(), s.calm),
             canvas = in.reals<T>(with_canvas ? s.volume() : 0, s.calm),
             window = in.reals<T>(5, s.calm), grad = in.reals<T>(count, s.calm);
  const Image<T> one{image.data(), with_canvas ? canvas.data() : nullptr, window.data()};
  auto result = unwritten<T>(count), grad_window = unwritten<T>(5);
  auto grad_image = unwritten<T>(wants_image ? s.volume() : 0),
       grad_canvas = unwritten<T>(with_canvas ? s.volume() : 0);
  ReadWorkspace<T> workspace(s.channels, s.height, s.width, s.size, with_canvas);
  kernels.read(workspace, one, result.data());
  ReadBackwardWorkspace<T> backward(s.channels, s.height, s.width, s.size, with_canvas);
  kernels.read_backward(backward, one, grad.data(),
                        {wants_image ? grad_image.data() : nullptr, grad_window.data(),
                         with_canvas ? grad_canvas.data() : nullptr});
  if (!s.calm) return;
  for (const auto& found : {result, grad_window, grad_image, grad_canvas}) expect_finite(found);
}

template <class T>
void write(Bytes& in, const GlimpseKernels<T>& kernels, const Sizes& s) {
  const auto patch = in.reals<T>(s.patch(), s.calm), window = in.reals<T>(5, s.calm),
             canvas = in.reals<T>(s.volume(), s.calm), grad = in.reals<T>(s.volume(), s.calm);
  auto result = unwritten<T>(s.volume()), grad_patch = unwritten<T>(s.patch()),
       grad_window = unwritten<T>(5);
  WriteWorkspace<T> workspace(s.channels, s.height, s.width, s.size);
  kernels.write(workspace, patch.data(), window.data(), canvas.data(), result.data());
  WriteBackwardWorkspace<T> backward(s.channels, s.height, s.width, s.size);
  kernels.write_backward(backward, grad.data(), patch.data(), window.data(), grad_patch.data(),
                         grad_window.data());
  if (!s.calm) return;
  for (const auto& found : {result, grad_patch, grad_window}) expect_finite(found);
}

template <class T>
void run(Bytes& in, const GlimpseKernels<T>& kernels) {
  const FlushSubnormals flush;
  const Sizes s{in.number(1, 3), in.number(1, 40), in.number(1, 40), in.number(1, 20),
                bool(in.number(0, 1))};
  in.number(0, 1) ? read(in, kernels, s) : write(in, kernels, s);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Bytes in(data, size);
  if (in.number(0, 1))
    run(in, glimpse_kernels<double>(Isa::portable));
  else
    run(in, glimpse_kernels<float>(std::min(Isa(in.number(0, 1)), best_isa())));
  return 0;
}
