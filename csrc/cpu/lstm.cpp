#include "../lstm.h"

#include "../math/lstm.h"
#include "lstm.h"
#include "avx512.h"

namespace aligndraw::cpu {
namespace {

// One row of the batch, n units; gates and grad_gates hold i, f, g and o one after another.
template <class T>
ALIGNDRAW_INLINE void forward_loop(const T* gates, const T* c, T* h, T* c_next, int64_t n) {
  for (int64_t j = 0; j < n; ++j) {
    const auto next =
        math::lstm_gates(gates[j], gates[n + j], gates[2 * n + j], gates[3 * n + j], c[j]);
    h[j] = next.h;
    c_next[j] = next.c;
  }
}

template <class T>
ALIGNDRAW_INLINE void backward_loop(const T* grad_h, const T* grad_c, const T* gates, const T* c,
                                    T* grad_gates, T* grad_c_prev, int64_t n) {
  for (int64_t j = 0; j < n; ++j) {
    const auto grad = math::lstm_gates_backward(grad_h[j], grad_c[j], gates[j], gates[n + j],
                                                gates[2 * n + j], gates[3 * n + j], c[j]);
    grad_gates[j] = grad.i;
    grad_gates[n + j] = grad.f;
    grad_gates[2 * n + j] = grad.g;
    grad_gates[3 * n + j] = grad.o;
    grad_c_prev[j] = grad.c;
  }
}

ALIGNDRAW_CLONES void forward_elsewhere(const float* __restrict gates, const float* __restrict c,
                                        float* __restrict h, float* __restrict c_next, int64_t n) {
  forward_loop(gates, c, h, c_next, n);
}

ALIGNDRAW_CLONES void backward_elsewhere(const float* __restrict grad_h,
                                         const float* __restrict grad_c,
                                         const float* __restrict gates, const float* __restrict c,
                                         float* __restrict grad_gates,
                                         float* __restrict grad_c_prev, int64_t n) {
  backward_loop(grad_h, grad_c, gates, c, grad_gates, grad_c_prev, n);
}

#ifdef ALIGNDRAW_X86

// math::lstm_gates of 16 units.
ALIGNDRAW_AVX512 void forward_avx512(const float* gates, const float* c, float* h, float* c_next,
                                     int64_t n) {
  const Avx512Tanh tanh;
  const Avx512Sigmoid sigmoid;
  in_sixteens(n, [=](Sixteen at) ALIGNDRAW_AVX512_LAMBDA {
    const __m512 in = sigmoid(at(gates)), forget = sigmoid(at(gates + n)),
                 candidate = tanh(at(gates + 2 * n)), out = sigmoid(at(gates + 3 * n));
    const __m512 next = _mm512_fmadd_ps(forget, at(c), _mm512_mul_ps(in, candidate));
    at.put(h, _mm512_mul_ps(out, tanh(next)));
    at.put(c_next, next);
  });
}

// math::lstm_gates_backward of 16 units.
ALIGNDRAW_AVX512 void backward_avx512(const float* grad_h, const float* grad_c, const float* gates,
                                      const float* c, float* grad_gates, float* grad_c_prev,
                                      int64_t n) {
  const Avx512Tanh tanh;
  const Avx512Sigmoid sigmoid;
  in_sixteens(n, [=](Sixteen at) ALIGNDRAW_AVX512_LAMBDA {
    const __m512 one = _mm512_set1_ps(1);
    const __m512 in = sigmoid(at(gates)), forget = sigmoid(at(gates + n)),
                 candidate = tanh(at(gates + 2 * n)), out = sigmoid(at(gates + 3 * n));
    const __m512 squashed = tanh(_mm512_fmadd_ps(forget, at(c), _mm512_mul_ps(in, candidate)));
    const auto less = [](__m512 a, __m512 share) ALIGNDRAW_AVX512_LAMBDA {
      return _mm512_fnmadd_ps(a, share, a);  // a (1 - share), rounded once
    };
    const __m512 through = _mm512_mul_ps(at(grad_h), out);
    const __m512 total =
        _mm512_fmadd_ps(through, _mm512_fnmadd_ps(squashed, squashed, one), at(grad_c));
    const __m512 total_in = _mm512_mul_ps(total, in), total_forget = _mm512_mul_ps(total, forget);
    at.put(grad_gates, _mm512_mul_ps(total_in, less(candidate, in)));
    at.put(grad_gates + n, _mm512_mul_ps(total_forget, less(at(c), forget)));
    at.put(grad_gates + 2 * n,
           _mm512_mul_ps(total_in, _mm512_fnmadd_ps(candidate, candidate, one)));
    at.put(grad_gates + 3 * n, _mm512_mul_ps(through, less(squashed, out)));
    at.put(grad_c_prev, total_forget);
  });
}

#endif

}  // namespace

void forward_row(const float* gates, const float* c, float* h, float* c_next, int64_t n) {
#ifdef ALIGNDRAW_X86
  if (isa() >= Isa::avx512) return forward_avx512(gates, c, h, c_next, n);
#endif
  forward_elsewhere(gates, c, h, c_next, n);
}

void forward_row(const double* gates, const double* c, double* h, double* c_next, int64_t n) {
  forward_loop(gates, c, h, c_next, n);
}

void backward_row(const float* grad_h, const float* grad_c, const float* gates, const float* c,
                  float* grad_gates, float* grad_c_prev, int64_t n) {
#ifdef ALIGNDRAW_X86
  if (isa() >= Isa::avx512)
    return backward_avx512(grad_h, grad_c, gates, c, grad_gates, grad_c_prev, n);
#endif
  backward_elsewhere(grad_h, grad_c, gates, c, grad_gates, grad_c_prev, n);
}

void backward_row(const double* grad_h, const double* grad_c, const double* gates, const double* c,
                  double* grad_gates, double* grad_c_prev, int64_t n) {
  backward_loop(grad_h, grad_c, gates, c, grad_gates, grad_c_prev, n);
}

namespace {

template <class T>
Pair run_forward(const Tensor& gates, const Tensor& c) {
  const Tensor h = pooled_like(c), c_next = pooled_like(c);
  const int64_t n = c.size(1);
  const T *gates_data = gates.const_data_ptr<T>(), *c_data = c.const_data_ptr<T>();
  T *h_data = h.mutable_data_ptr<T>(), *c_next_data = c_next.mutable_data_ptr<T>();
  for_each_row(c.size(0), n, [=](int64_t b) {
    forward_row(gates_data + 4 * b * n, c_data + b * n, h_data + b * n, c_next_data + b * n, n);
  });
  return {h, c_next};
}

template <class T>
Pair run_backward(const Tensor& grad_h, const Tensor& grad_c, const Tensor& gates,
                  const Tensor& c) {
  const Tensor grad_gates = pooled_like(gates);
  const Tensor grad_c_prev = pooled_like(c);
  const int64_t n = c.size(1);
  const T *grad_h_data = grad_h.const_data_ptr<T>(), *grad_c_data = grad_c.const_data_ptr<T>();
  const T *gates_data = gates.const_data_ptr<T>(), *c_data = c.const_data_ptr<T>();
  T* grad_gates_data = grad_gates.mutable_data_ptr<T>();
  T* grad_c_prev_data = grad_c_prev.mutable_data_ptr<T>();
  for_each_row(c.size(0), n, [=](int64_t b) {
    backward_row(grad_h_data + b * n, grad_c_data + b * n, gates_data + 4 * b * n, c_data + b * n,
                 grad_gates_data + 4 * b * n, grad_c_prev_data + b * n, n);
  });
  return {grad_gates, grad_c_prev};
}

}  // namespace

Pair lstm_gates(Tensor gates, Tensor c) {
  check_lstm_gates("lstm_gates", gates, c);
  const auto run = is_double(gates) ? run_forward<double> : run_forward<float>;
  const auto [h, c_next] = run(for_arithmetic(gates), for_arithmetic(c));
  return {as_type(h, gates.scalar_type()), as_type(c_next, c.scalar_type())};
}

Pair lstm_gates_backward(Tensor grad_h, Tensor grad_c, Tensor gates, Tensor c) {
  check_lstm_gates_backward(grad_h, grad_c, gates, c);
  const auto run = is_double(gates) ? run_backward<double> : run_backward<float>;
  const auto [grad_gates, grad_c_prev] =
      run(for_arithmetic(grad_h), for_arithmetic(grad_c), for_arithmetic(gates), for_arithmetic(c));
  return {as_type(grad_gates, gates.scalar_type()), as_type(grad_c_prev, c.scalar_type())};
}

}  // namespace aligndraw::cpu
