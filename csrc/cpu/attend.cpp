#include "../attend.h"

#include "energy.h"

namespace aligndraw::cpu {
namespace {

using Pair = std::tuple<Tensor, Tensor>;
using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;

template <class T>
ALIGNDRAW_INLINE void forward_caption(const Caption<T>& caption, const AttendSizes& sizes,
                                      T* context, T* weights) {
  const int64_t words = sizes.words, units = sizes.units, width = sizes.width;
  const int64_t length = caption.length;
  const T* const values = caption.values;
  energies(caption, units, weights);
  T largest = weights[0];
  for (int64_t k = 1; k < length; ++k) largest = weights[k] > largest ? weights[k] : largest;
  T total = 0;
  for (int64_t k = 0; k < length; ++k) total += weights[k] = math::exp(weights[k] - largest);
  for (int64_t k = 0; k < words; ++k) weights[k] = k < length ? weights[k] / total : T(0);
  for (int64_t j = 0; j < width; ++j) context[j] = 0;
  for (int64_t k = 0; k < length; ++k)
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) context[j] += weights[k] * values[k * width + j];
}

template <class T>
ALIGNDRAW_INLINE void backward_caption(const T* grad_context, const T* grad_weights,
                                       const Caption<T>& caption, const T* weights,
                                       const AttendSizes& sizes, const CaptionGrads<T>& grads,
                                       T* grad_energies) {
  const int64_t words = sizes.words, units = sizes.units, width = sizes.width;
  const int64_t length = caption.length;
  const T* const values = caption.values;
  T mean = 0;
  for (int64_t k = 0; k < length; ++k) {
    const T* const value = values + k * width;
    grad_energies[k] =
        grad_weights[k] + sum_of<T>(width, [=](int64_t j) { return grad_context[j] * value[j]; });
    mean += weights[k] * grad_energies[k];
    if (grads.values)
#pragma omp simd
      for (int64_t j = 0; j < width; ++j)
        grads.values[k * width + j] = weights[k] * grad_context[j];
  }
  if (grads.values) std::fill(grads.values + length * width, grads.values + words * width, T(0));
  for (int64_t k = 0; k < length; ++k) grad_energies[k] = weights[k] * (grad_energies[k] - mean);
  energies_backward(grad_energies, caption, units, grads);
  for (int64_t n = grads.adds_keys ? words * units : length * units; n < words * units; ++n)
    grads.keys[n] = 0;
}

}  // namespace

ALIGNDRAW_CLONES void forward_row(const Caption<float>& caption, const AttendSizes& sizes,
                                  float* context, float* weights) {
  forward_caption(caption, sizes, context, weights);
}

void forward_row(const Caption<double>& caption, const AttendSizes& sizes, double* context,
                 double* weights) {
  forward_caption(caption, sizes, context, weights);
}

ALIGNDRAW_CLONES void backward_row(const float* grad_context, const float* grad_weights,
                                   const Caption<float>& caption, const float* weights,
                                   const AttendSizes& sizes, const CaptionGrads<float>& grads,
                                   float* grad_energies) {
  backward_caption(grad_context, grad_weights, caption, weights, sizes, grads, grad_energies);
}

void backward_row(const double* grad_context, const double* grad_weights,
                  const Caption<double>& caption, const double* weights, const AttendSizes& sizes,
                  const CaptionGrads<double>& grads, double* grad_energies) {
  backward_caption(grad_context, grad_weights, caption, weights, sizes, grads, grad_energies);
}

namespace {

template <class T>
struct Captions {
  const AttendSizes sizes;
  const T *query, *keys, *score, *values;
  const int64_t* lengths;

  Captions(const Tensor& query, const Tensor& keys, const Tensor& score, const Tensor& values,
           const Tensor& lengths)
      : sizes{keys.size(1), keys.size(2), values.size(2)},
        query(query.const_data_ptr<T>()),
        keys(keys.const_data_ptr<T>()),
        score(score.const_data_ptr<T>()),
        values(values.const_data_ptr<T>()),
        lengths(lengths.const_data_ptr<int64_t>()) {}

  Caption<T> operator[](int64_t b) const {
    const auto [words, units, width] = sizes;
    return {query + b * units, keys + b * words * units, score, values + b * words * width,
            std::clamp<int64_t>(lengths[b], 1, words)};
  }
};

template <class T>
Pair run_forward(const Tensor& query, const Tensor& keys, const Tensor& score, const Tensor& values,
                 const Tensor& lengths) {
  const Captions<T> captions(query, keys, score, values, lengths);
  const AttendSizes sizes = captions.sizes;
  const int64_t batch = keys.size(0);
  const Tensor context = pooled({batch, sizes.width}, values.scalar_type());
  const Tensor weights = pooled({batch, sizes.words}, query.scalar_type());
  T *context_data = context.mutable_data_ptr<T>(), *weights_data = weights.mutable_data_ptr<T>();
  for_each_row(batch, sizes.words * sizes.units, [=](int64_t b) {
    forward_row(captions[b], sizes, context_data + b * sizes.width, weights_data + b * sizes.words);
  });
  return {context, weights};
}

template <class T>
Four run_backward(const Tensor& grad_context, const Tensor& grad_weights, const Tensor& query,
                  const Tensor& keys, const Tensor& score, const Tensor& values,
                  const Tensor& lengths, const Tensor& weights) {
  const Captions<T> captions(query, keys, score, values, lengths);
  const AttendSizes sizes = captions.sizes;
  const int64_t batch = keys.size(0);
  const Tensor grad_query = pooled_like(query);
  const Tensor grad_keys = pooled_like(keys);
  const Tensor grad_score = pooled_like(score);
  const Tensor grad_values = pooled_like(values);
  const T* grad_context_data = grad_context.const_data_ptr<T>();
  const T *grad_weights_data = grad_weights.const_data_ptr<T>(),
          *weights_data = weights.const_data_ptr<T>();
  const CaptionGrads<T> first{grad_query.mutable_data_ptr<T>(), grad_keys.mutable_data_ptr<T>(),
                              grad_score.mutable_data_ptr<T>(), grad_values.mutable_data_ptr<T>(),
                              false};
  // Each part of the score's gradient sums equally many captions, so that the order of the sum does
  // not depend on the threads.
  constexpr int64_t captions_a_part = 2;
  const int64_t part_count = (batch + captions_a_part - 1) / captions_a_part;
  const Buffer<T> parts(part_count * sizes.units);
  T* const first_part = parts;
  for_row_ranges(part_count, captions_a_part * sizes.words * sizes.units,
                 [=](int64_t begin, int64_t end) {
                   const Buffer<T> grad_energies(sizes.words);
                   const auto [words, units, width] = sizes;
                   for (int64_t p = begin; p < end; ++p) {
                     T* const part = first_part + p * units;
                     std::fill_n(part, units, T(0));
                     const int64_t last = std::min(batch, (p + 1) * captions_a_part);
                     for (int64_t b = p * captions_a_part; b < last; ++b)
                       backward_row(grad_context_data + b * width, grad_weights_data + b * words,
                                    captions[b], weights_data + b * words, sizes,
                                    {first.query + b * units, first.keys + b * words * units, part,
                                     first.values + b * words * width, false},
                                    grad_energies);
                   }
                 });
  std::fill_n(first.score, sizes.units, T(0));
  for (int64_t p = 0; p < part_count; ++p)
    for (int64_t j = 0; j < sizes.units; ++j) first.score[j] += first_part[p * sizes.units + j];
  return {grad_query, grad_keys, grad_score, grad_values};
}

}  // namespace

Pair attend(Tensor query, Tensor keys, Tensor score, Tensor values, Tensor lengths) {
  check_attend("attend", query, keys, score, values, lengths);
  const auto run = is_double(query) ? run_forward<double> : run_forward<float>;
  const auto [context, weights] =
      run(for_arithmetic(query), for_arithmetic(keys), for_arithmetic(score),
          for_arithmetic(values), as_contiguous(lengths));
  return {as_type(context, values.scalar_type()), weights};
}

Four attend_backward(Tensor grad_context, Tensor grad_weights, Tensor query, Tensor keys,
                     Tensor score, Tensor values, Tensor lengths, Tensor weights) {
  check_attend_backward(grad_context, grad_weights, query, keys, score, values, lengths, weights);
  const auto run = is_double(query) ? run_backward<double> : run_backward<float>;
  const auto [grad_query, grad_keys, grad_score, grad_values] =
      run(for_arithmetic(grad_context), for_arithmetic(grad_weights), for_arithmetic(query),
          for_arithmetic(keys), for_arithmetic(score), for_arithmetic(values),
          as_contiguous(lengths), for_arithmetic(weights));
  return {as_type(grad_query, query.scalar_type()), as_type(grad_keys, keys.scalar_type()),
          as_type(grad_score, score.scalar_type()), as_type(grad_values, values.scalar_type())};
}

}  // namespace aligndraw::cpu
