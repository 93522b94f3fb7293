// latent in C++: its signatures and its checks.
//
//   forward:   mu_q, log_sigma_q, mu_p, log_sigma_p, noise [B, z]
//              ->  z [B, z], kl [B], log_ratio [B]
//   backward:  grad_z, grad_kl, grad_log_ratio, the arguments  ->  the gradients of the arguments
//
// q is the posterior, p the prior. Arguments may have any strides, and B may be 0. z has the dtype
// of mu_q. The arithmetic, kl and log_ratio are float64 where all arguments are, else float32.
#pragma once
#include <tuple>

#include "check.h"

namespace aligndraw {

namespace cpu {
std::tuple<Tensor, Tensor, Tensor> latent(Tensor mu_q, Tensor log_sigma_q, Tensor mu_p,
                                          Tensor log_sigma_p, Tensor noise);
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> latent_backward(Tensor grad_z, Tensor grad_kl,
                                                                   Tensor grad_log_ratio,
                                                                   Tensor mu_q, Tensor log_sigma_q,
                                                                   Tensor mu_p, Tensor log_sigma_p,
                                                                   Tensor noise);
}  // namespace cpu

namespace cuda {
std::tuple<Tensor, Tensor, Tensor> latent(Tensor mu_q, Tensor log_sigma_q, Tensor mu_p,
                                          Tensor log_sigma_p, Tensor noise);
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> latent_backward(Tensor grad_z, Tensor grad_kl,
                                                                   Tensor grad_log_ratio,
                                                                   Tensor mu_q, Tensor log_sigma_q,
                                                                   Tensor mu_p, Tensor log_sigma_p,
                                                                   Tensor noise);
}  // namespace cuda

inline void check_latent(const char* op, const Tensor& mu_q, const Tensor& log_sigma_q,
                         const Tensor& mu_p, const Tensor& log_sigma_p, const Tensor& noise) {
  check_shape(op, "mu_q", mu_q, "[B, z]", {any, any});
  const std::initializer_list<Argument> arguments{{"mu_q", mu_q},
                                                  {"log_sigma_q", log_sigma_q},
                                                  {"mu_p", mu_p},
                                                  {"log_sigma_p", log_sigma_p},
                                                  {"noise", noise}};
  for (const Argument& argument : arguments)
    check_shape(op, argument.name, argument.tensor, "[B, z]", {mu_q.size(0), mu_q.size(1)});
  check_float(op, arguments);
}

inline void check_latent_backward(const Tensor& grad_z, const Tensor& grad_kl,
                                  const Tensor& grad_log_ratio, const Tensor& mu_q,
                                  const Tensor& log_sigma_q, const Tensor& mu_p,
                                  const Tensor& log_sigma_p, const Tensor& noise) {
  const char* op = "latent_backward";
  check_latent(op, mu_q, log_sigma_q, mu_p, log_sigma_p, noise);
  check_shape(op, "grad_z", grad_z, "[B, z]", {mu_q.size(0), mu_q.size(1)});
  check_shape(op, "grad_kl", grad_kl, "[B]", {mu_q.size(0)});
  check_shape(op, "grad_log_ratio", grad_log_ratio, "[B]", {mu_q.size(0)});
  check_float(op, {{"mu_q", mu_q},
                   {"grad_z", grad_z},
                   {"grad_kl", grad_kl},
                   {"grad_log_ratio", grad_log_ratio}});
}

}  // namespace aligndraw
