#include "../latent.h"

#include "../math/latent.h"
#include "latent.h"

namespace aligndraw::cpu {
namespace {

using Triple = std::tuple<Tensor, Tensor, Tensor>;
using Five = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// Two vectors of terms stand between the vector loop and the sums.
template <class T>
ALIGNDRAW_INLINE void forward_loop(const LatentRow<T>& row, T* __restrict z, T* __restrict kl_terms,
                                   T* __restrict ratio_terms, int64_t n, T* kl, T* log_ratio) {
  const T *const mu_q = row.mu_q, *const log_sigma_q = row.log_sigma_q, *const mu_p = row.mu_p,
                 *const log_sigma_p = row.log_sigma_p, *const noise = row.noise;
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) {
    const auto drawn = math::latent(mu_q[j], log_sigma_q[j], mu_p[j], log_sigma_p[j], noise[j]);
    z[j] = drawn.z;
    kl_terms[j] = drawn.kl;
    ratio_terms[j] = drawn.log_ratio;
  }
  *kl = sum_of<T>(n, [=](int64_t j) { return kl_terms[j]; });
  *log_ratio = sum_of<T>(n, [=](int64_t j) { return ratio_terms[j]; });
}

template <class T>
ALIGNDRAW_INLINE void backward_loop(const T* grad_z, T grad_kl, T grad_log_ratio,
                                    const LatentRow<T>& row, const LatentRowGrads<T>& grads,
                                    int64_t n) {
  const T *const mu_q = row.mu_q, *const log_sigma_q = row.log_sigma_q, *const mu_p = row.mu_p,
                 *const log_sigma_p = row.log_sigma_p, *const noise = row.noise;
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) {
    const auto grad = math::latent_backward(grad_z[j], grad_kl, grad_log_ratio, mu_q[j],
                                            log_sigma_q[j], mu_p[j], log_sigma_p[j], noise[j]);
    grads.mu_q[j] = grad.mu_q;
    grads.log_sigma_q[j] = grad.log_sigma_q;
    grads.mu_p[j] = grad.mu_p;
    grads.log_sigma_p[j] = grad.log_sigma_p;
    grads.noise[j] = grad.noise;
  }
}

}  // namespace

ALIGNDRAW_CLONES void forward_row(const LatentRow<float>& row, float* z, float* kl_terms,
                                  float* ratio_terms, int64_t n, float* kl, float* log_ratio) {
  forward_loop(row, z, kl_terms, ratio_terms, n, kl, log_ratio);
}

void forward_row(const LatentRow<double>& row, double* z, double* kl_terms, double* ratio_terms,
                 int64_t n, double* kl, double* log_ratio) {
  forward_loop(row, z, kl_terms, ratio_terms, n, kl, log_ratio);
}

ALIGNDRAW_CLONES void backward_row(const float* grad_z, float grad_kl, float grad_log_ratio,
                                   const LatentRow<float>& row, const LatentRowGrads<float>& grads,
                                   int64_t n) {
  backward_loop(grad_z, grad_kl, grad_log_ratio, row, grads, n);
}

void backward_row(const double* grad_z, double grad_kl, double grad_log_ratio,
                  const LatentRow<double>& row, const LatentRowGrads<double>& grads, int64_t n) {
  backward_loop(grad_z, grad_kl, grad_log_ratio, row, grads, n);
}

namespace {

template <class T>
Triple run_forward(const Tensor& mu_q, const Tensor& log_sigma_q, const Tensor& mu_p,
                   const Tensor& log_sigma_p, const Tensor& noise) {
  const int64_t batch = mu_q.size(0), n = mu_q.size(1);
  const Tensor z = pooled_like(mu_q);
  const Tensor kl = pooled({batch}, mu_q.scalar_type()), log_ratio = pooled_like(kl);
  const LatentRow<T> first{mu_q.const_data_ptr<T>(), log_sigma_q.const_data_ptr<T>(),
                           mu_p.const_data_ptr<T>(), log_sigma_p.const_data_ptr<T>(),
                           noise.const_data_ptr<T>()};
  T *z_data = z.mutable_data_ptr<T>(), *kl_data = kl.mutable_data_ptr<T>();
  T* log_ratio_data = log_ratio.mutable_data_ptr<T>();
  for_row_ranges(batch, n, [=](int64_t begin, int64_t end) {
    const Buffer<T> kl_terms(n), ratio_terms(n);
    for (int64_t b = begin; b < end; ++b)
      forward_row({first.mu_q + b * n, first.log_sigma_q + b * n, first.mu_p + b * n,
                   first.log_sigma_p + b * n, first.noise + b * n},
                  z_data + b * n, kl_terms, ratio_terms, n, kl_data + b, log_ratio_data + b);
  });
  return {z, kl, log_ratio};
}

template <class T>
Five run_backward(const Tensor& grad_z, const Tensor& grad_kl, const Tensor& grad_log_ratio,
                  const Tensor& mu_q, const Tensor& log_sigma_q, const Tensor& mu_p,
                  const Tensor& log_sigma_p, const Tensor& noise) {
  const int64_t batch = mu_q.size(0), n = mu_q.size(1);
  const auto like = [&] { return pooled_like(mu_q); };
  const Five grads{like(), like(), like(), like(), like()};
  const LatentRow<T> first{mu_q.const_data_ptr<T>(), log_sigma_q.const_data_ptr<T>(),
                           mu_p.const_data_ptr<T>(), log_sigma_p.const_data_ptr<T>(),
                           noise.const_data_ptr<T>()};
  const LatentRowGrads<T> first_grads = std::apply(
      [](const auto&... grad) { return LatentRowGrads<T>{grad.template mutable_data_ptr<T>()...}; },
      grads);
  const T *grad_z_data = grad_z.const_data_ptr<T>(), *grad_kl_data = grad_kl.const_data_ptr<T>();
  const T* grad_log_ratio_data = grad_log_ratio.const_data_ptr<T>();
  for_each_row(batch, n, [=](int64_t b) {
    backward_row(
        grad_z_data + b * n, grad_kl_data[b], grad_log_ratio_data[b],
        {first.mu_q + b * n, first.log_sigma_q + b * n, first.mu_p + b * n,
         first.log_sigma_p + b * n, first.noise + b * n},
        {first_grads.mu_q + b * n, first_grads.log_sigma_q + b * n, first_grads.mu_p + b * n,
         first_grads.log_sigma_p + b * n, first_grads.noise + b * n},
        n);
  });
  return grads;
}

}  // namespace

Triple latent(Tensor mu_q, Tensor log_sigma_q, Tensor mu_p, Tensor log_sigma_p, Tensor noise) {
  check_latent("latent", mu_q, log_sigma_q, mu_p, log_sigma_p, noise);
  const auto run = is_double(mu_q) ? run_forward<double> : run_forward<float>;
  const auto [z, kl, log_ratio] =
      run(for_arithmetic(mu_q), for_arithmetic(log_sigma_q), for_arithmetic(mu_p),
          for_arithmetic(log_sigma_p), for_arithmetic(noise));
  return {as_type(z, mu_q.scalar_type()), kl, log_ratio};
}

Five latent_backward(Tensor grad_z, Tensor grad_kl, Tensor grad_log_ratio, Tensor mu_q,
                     Tensor log_sigma_q, Tensor mu_p, Tensor log_sigma_p, Tensor noise) {
  check_latent_backward(grad_z, grad_kl, grad_log_ratio, mu_q, log_sigma_q, mu_p, log_sigma_p,
                        noise);
  const auto run = is_double(mu_q) ? run_backward<double> : run_backward<float>;
  const auto [g_mu_q, g_log_sigma_q, g_mu_p, g_log_sigma_p, g_noise] =
      run(for_arithmetic(grad_z), for_arithmetic(grad_kl), for_arithmetic(grad_log_ratio),
          for_arithmetic(mu_q), for_arithmetic(log_sigma_q), for_arithmetic(mu_p),
          for_arithmetic(log_sigma_p), for_arithmetic(noise));
  return {as_type(g_mu_q, mu_q.scalar_type()), as_type(g_log_sigma_q, log_sigma_q.scalar_type()),
          as_type(g_mu_p, mu_p.scalar_type()), as_type(g_log_sigma_p, log_sigma_p.scalar_type()),
          as_type(g_noise, noise.scalar_type())};
}

}  // namespace aligndraw::cpu
