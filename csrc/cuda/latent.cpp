#include "latent.h"

#include <array>

#include "../latent.h"
#include "glue.h"

namespace aligndraw::cuda {
namespace {

LatentInputs inputs(const std::array<Tensor, 5>& t) {
  return {input(t[0]), input(t[1]), input(t[2]), input(t[3]), input(t[4])};
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> latent(Tensor mu_q, Tensor log_sigma_q, Tensor mu_p,
                                          Tensor log_sigma_p, Tensor noise) {
  check_latent("latent", mu_q, log_sigma_q, mu_p, log_sigma_p, noise);
  const OnDeviceOf device(mu_q);
  const std::array arguments{as_contiguous(mu_q), as_contiguous(log_sigma_q), as_contiguous(mu_p),
                             as_contiguous(log_sigma_p), as_contiguous(noise)};
  const int64_t batch = mu_q.size(0), size = mu_q.size(1);
  const Tensor z = torch::stable::empty_like(arguments[0]);
  const Tensor kl = torch::stable::new_empty(mu_q, {batch}, arithmetic_type(mu_q));
  const Tensor log_ratio = torch::stable::empty_like(kl);
  check_launch("latent", launch_latent(inputs(arguments), output(z), kl.mutable_data_ptr(),
                                       log_ratio.mutable_data_ptr(), batch, size, device.stream()));
  return {z, kl, log_ratio};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> latent_backward(Tensor grad_z, Tensor grad_kl,
                                                                   Tensor grad_log_ratio,
                                                                   Tensor mu_q, Tensor log_sigma_q,
                                                                   Tensor mu_p, Tensor log_sigma_p,
                                                                   Tensor noise) {
  check_latent_backward(grad_z, grad_kl, grad_log_ratio, mu_q, log_sigma_q, mu_p, log_sigma_p,
                        noise);
  const OnDeviceOf device(mu_q);
  grad_z = as_contiguous(grad_z);
  grad_kl = as_contiguous(grad_kl);
  grad_log_ratio = as_contiguous(grad_log_ratio);
  const std::array arguments{as_contiguous(mu_q), as_contiguous(log_sigma_q), as_contiguous(mu_p),
                             as_contiguous(log_sigma_p), as_contiguous(noise)};
  const auto like = [](const Tensor& tensor) { return torch::stable::empty_like(tensor); };
  const std::array grads{like(arguments[0]), like(arguments[1]), like(arguments[2]),
                         like(arguments[3]), like(arguments[4])};
  check_launch("latent_backward",
               launch_latent_backward(input(grad_z), input(grad_kl), input(grad_log_ratio),
                                      inputs(arguments),
                                      {output(grads[0]), output(grads[1]), output(grads[2]),
                                       output(grads[3]), output(grads[4])},
                                      mu_q.size(0), mu_q.size(1), device.stream()));
  return {grads[0], grads[1], grads[2], grads[3], grads[4]};
}

}  // namespace aligndraw::cuda
