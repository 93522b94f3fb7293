// libFuzzer: attend, lstm_gates and latent of one row with their gradients, of any sizes and
// numbers. Of calm numbers every result is written, and finite.
#include "cpu/attend.h"
#include "cpu/isa.h"
#include "cpu/latent.h"
#include "cpu/lstm.h"
#include "kernels.h"

using namespace aligndraw::cpu;

namespace {

template <class T>
void attend(Bytes& in, bool calm) {
  const AttendSizes s{in.number(1, 9), in.number(1, 40), in.number(1, 40)};
  const int64_t length = in.number(1, s.words);
  const auto query = in.reals<T>(s.units, calm), keys = in.reals<T>(s.words * s.units, calm),
             score = in.reals<T>(s.units, calm), values = in.reals<T>(s.words * s.width, calm),
             grad_context = in.reals<T>(s.width, calm), grad_weights = in.reals<T>(s.words, calm);
  const Caption<T> caption{query.data(), keys.data(), score.data(), values.data(), length};
  auto context = unwritten<T>(s.width), weights = unwritten<T>(s.words);
  forward_row(caption, s, context.data(), weights.data());
  const bool adds_keys = in.number(0, 1), wants_values = in.number(0, 1);
  auto grad_query = unwritten<T>(s.units), energies = unwritten<T>(s.words),
       grad_score = Bytes::zeros<T>(s.units);
  auto grad_keys = adds_keys ? Bytes::zeros<T>(keys.size()) : unwritten<T>(keys.size());
  auto grad_values = unwritten<T>(wants_values ? values.size() : 0);
  backward_row(grad_context.data(), grad_weights.data(), caption, weights.data(), s,
               {grad_query.data(), grad_keys.data(), grad_score.data(),
                wants_values ? grad_values.data() : nullptr, adds_keys},
               energies.data());
  if (!calm) return;
  for (const auto& found : {context, weights, grad_query, grad_keys, grad_score, grad_values})
    expect_finite(found);
  T sum = 0;
  for (int64_t k = 0; k < s.words; ++k) {
    expect(weights[k] >= 0 && (k < length || weights[k] == 0));
    sum += weights[k];
  }
  expect(std::abs(sum - 1) < T(1e-5));
}

template <class T>
void lstm_gates(Bytes& in, bool calm) {
  const int64_t n = in.number(0, 70);
  const auto gates = in.reals<T>(4 * n, calm), c = in.reals<T>(n, calm),
             grad_h = in.reals<T>(n, calm), grad_c = in.reals<T>(n, calm);
  auto h = unwritten<T>(n), next = unwritten<T>(n), grad_gates = unwritten<T>(4 * n),
       grad_before = unwritten<T>(n);
  forward_row(gates.data(), c.data(), h.data(), next.data(), n);
  backward_row(grad_h.data(), grad_c.data(), gates.data(), c.data(), grad_gates.data(),
               grad_before.data(), n);
  if (!calm) return;
  for (const auto& found : {h, next, grad_gates, grad_before}) expect_finite(found);
  for (int64_t j = 0; j < n; ++j)
    expect(std::abs(h[j]) <= 1 && std::abs(next[j]) <= std::abs(c[j]) + 1);
}

template <class T>
void latent(Bytes& in, bool calm) {
  const int64_t n = in.number(0, 70);
  const auto mu_q = in.reals<T>(n, calm), log_sigma_q = in.reals<T>(n, calm),
             mu_p = in.reals<T>(n, calm), log_sigma_p = in.reals<T>(n, calm),
             noise = in.reals<T>(n, calm), grad_z = in.reals<T>(n, calm),
             grads = in.reals<T>(2, calm);
  const LatentRow<T> row{mu_q.data(), log_sigma_q.data(), mu_p.data(), log_sigma_p.data(),
                         noise.data()};
  auto z = unwritten<T>(n), kl_terms = unwritten<T>(n), ratio_terms = unwritten<T>(n),
       sums = unwritten<T>(2);
  forward_row(row, z.data(), kl_terms.data(), ratio_terms.data(), n, &sums[0], &sums[1]);
  std::vector<T> found[5];
  for (auto& one : found) one = unwritten<T>(n);
  backward_row(
      grad_z.data(), grads[0], grads[1], row,
      {found[0].data(), found[1].data(), found[2].data(), found[3].data(), found[4].data()}, n);
  if (!calm) return;
  expect_finite(z);
  expect_finite(sums);
  for (const auto& one : found) expect_finite(one);
}

template <class T>
void run(Bytes& in) {
  const bool calm = in.number(0, 1);
  switch (in.number(0, 2)) {
    case 0:
      return attend<T>(in, calm);
    case 1:
      return lstm_gates<T>(in, calm);
    default:
      return latent<T>(in, calm);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Bytes in(data, size);
  in.number(0, 1) ? run<double>(in) : run<float>(in);
  return 0;
}
