// One component of a latent (Eq. 1, 13 and 14 of the alignDRAW paper), with q = N(mu_q, sigma_q^2),
// p = N(mu_p, sigma_p^2) and sigma = exp(log_sigma):
//
//   z         = mu_q + sigma_q noise
//   kl        = (((mu_q - mu_p) / sigma_p)^2 + (sigma_q / sigma_p)^2 - 1) / 2
//               + log_sigma_p - log_sigma_q
//   log_ratio = (((z - mu_p) / sigma_p)^2 - noise^2) / 2 + log_sigma_p - log_sigma_q
//
// T is float or double.
#pragma once
#include "scalar.h"

namespace aligndraw::math {

template <class T>
struct Latent {
  T z, kl, log_ratio;
};

template <class T>
ALIGNDRAW_INLINE Latent<T> latent(T mu_q, T log_sigma_q, T mu_p, T log_sigma_p, T noise) {
  const T z = mu_q + exp(log_sigma_q) * noise, inverse_p = exp(-log_sigma_p);
  const T ratio = exp(2 * (log_sigma_q - log_sigma_p)), shift = log_sigma_p - log_sigma_q;
  const T apart = (mu_q - mu_p) * inverse_p, drawn_apart = (z - mu_p) * inverse_p;
  return {z, (apart * apart + ratio - 1) / 2 + shift,
          (drawn_apart * drawn_apart - noise * noise) / 2 + shift};
}

template <class T>
struct LatentGrads {
  T mu_q, log_sigma_q, mu_p, log_sigma_p, noise;
};

template <class T>
ALIGNDRAW_INLINE LatentGrads<T> latent_backward(T grad_z, T grad_kl, T grad_log_ratio, T mu_q,
                                                T log_sigma_q, T mu_p, T log_sigma_p, T noise) {
  const T sigma_q = exp(log_sigma_q), inverse_p = exp(-log_sigma_p);
  const T ratio = exp(2 * (log_sigma_q - log_sigma_p));
  const T apart = (mu_q - mu_p) * inverse_p,
          drawn_apart = (mu_q + sigma_q * noise - mu_p) * inverse_p;
  const T pull = grad_kl * apart * inverse_p, drawn_pull = grad_log_ratio * drawn_apart * inverse_p;
  const T total = grad_z + drawn_pull;  // total gradient of z
  return {total + pull, total * sigma_q * noise + grad_kl * (ratio - 1) - grad_log_ratio,
          -pull - drawn_pull,
          grad_kl * (1 - apart * apart - ratio) + grad_log_ratio * (1 - drawn_apart * drawn_apart),
          total * sigma_q - grad_log_ratio * noise};
}

}  // namespace aligndraw::math
