// What unroll's loops work on: the tensors of unroll.h as memory, on any device.
#pragma once
#include <vector>

#include "unroll.h"
#include "unroll_pointers.h"

namespace aligndraw {

// The arguments as they were given, and the pointers that a loop works with.
template <class T>
struct UnrollArguments : UnrollPointers<T> {
  explicit UnrollArguments(const UnrollInputs& in)
      : bf16(in.bf16), lengths_tensor(as_contiguous(in.lengths)) {
    this->sizes = sizes_of(in);
    const std::pair<const Tensor*, const T**> arguments[] = {
        {&in.image, &this->image},
        {&in.canvas, &this->canvas},
        {&in.words, &this->words},
        {&in.noise, &this->noise},
        {&in.encoder_ih, &this->encoder_ih},
        {&in.encoder_hh, &this->encoder_hh},
        {&in.encoder_bias, &this->encoder_bias},
        {&in.encoder_h0, &this->encoder_h0},
        {&in.posterior, &this->posterior},
        {&in.posterior_bias, &this->posterior_bias},
        {&in.decoder_ih, &this->decoder_ih},
        {&in.decoder_hh, &this->decoder_hh},
        {&in.decoder_bias, &this->decoder_bias},
        {&in.decoder_h0, &this->decoder_h0},
        {&in.heads, &this->heads},
        {&in.heads_bias, &this->heads_bias},
        {in.keys ? &*in.keys : nullptr, &this->keys},
        {in.score ? &*in.score : nullptr, &this->score}};
    for (const auto& [tensor, pointer] : arguments) {
      if (!tensor) continue;
      kept.push_back(as_contiguous(*tensor));
      *pointer = kept.back().template const_data_ptr<T>();
    }
    this->lengths = lengths_tensor.template const_data_ptr<int64_t>();
  }

  const bool bf16;
  const Tensor lengths_tensor;
  std::vector<Tensor> kept;
};

// The results, in tensors that make(shape) gives, after run(tape, the last canvas).
template <class T, class Make, class Run>
UnrollResults unroll_results(const UnrollInputs& in, const Make& make, const Run& run) {
  const UnrollSizes s = sizes_of(in);
  const int64_t B = s.batch, steps = s.steps;
  UnrollResults results{make({B, s.channels, s.height, s.width}),
                        make({steps, B}),
                        make({steps, B}),
                        make({steps, B, 5}),
                        make({steps, B, in.keys ? s.words : 0}),
                        make({steps, B, s.encoder_in()}),
                        make({steps, B, 4 * s.encoder}),
                        make({steps + 1, B, s.encoder}),
                        make({steps + 1, B, s.encoder}),
                        make({steps, B, 2 * s.latents}),
                        make({steps, B, s.decoder_in()}),
                        make({steps, B, 4 * s.decoder}),
                        make({steps + 1, B, s.decoder}),
                        make({steps + 1, B, s.decoder}),
                        make({steps + 1, B, s.heads()}),
                        make({steps, B, s.channels, s.height, s.width})};
  std::apply(
      [&](const Tensor& last, const auto&... tape) {
        run(UnrollTape<T*>{tape.template mutable_data_ptr<T>()...},
            last.template mutable_data_ptr<T>());
      },
      results);
  return results;
}

// The gradients, after run(tape, given, gradients).
template <class T, class Run>
UnrollGrads unroll_grads(const UnrollInputs& in, const std::array<Tensor, 5>& grads,
                         const std::array<Tensor, 12>& tape, bool image_grad, const Run& run) {
  const auto like = [](const Tensor& tensor) {
    return torch::stable::new_empty(tensor, tensor.sizes());
  };
  const Tensor none = torch::stable::new_empty(in.image, {0});
  UnrollGrads results{image_grad ? like(in.image) : none,
                      like(in.canvas),
                      like(in.words),
                      in.keys ? like(*in.keys) : none,
                      like(in.noise),
                      like(in.encoder_ih),
                      like(in.encoder_hh),
                      like(in.encoder_bias),
                      like(in.encoder_h0),
                      like(in.posterior),
                      like(in.posterior_bias),
                      like(in.decoder_ih),
                      like(in.decoder_hh),
                      like(in.decoder_bias),
                      like(in.decoder_h0),
                      like(in.heads),
                      like(in.heads_bias),
                      in.score ? like(*in.score) : none};
  auto out = std::apply(
      [](const auto&... grad) {
        return UnrollGradPointers<T>{grad.template mutable_data_ptr<T>()...};
      },
      results);
  if (!image_grad) out.image = nullptr;
  if (!in.keys) out.keys = nullptr;
  if (!in.score) out.score = nullptr;
  std::vector<Tensor> kept;
  const auto data = [&](const Tensor& tensor) {
    kept.push_back(as_contiguous(tensor));
    return kept.back().template const_data_ptr<T>();
  };
  // Not on the tape of the backward: kl, log_ratio, windows.
  const UnrollTape<const T*> pointers{nullptr,       nullptr,        nullptr,       data(tape[0]),
                                      data(tape[1]), data(tape[2]),  data(tape[3]), data(tape[4]),
                                      data(tape[5]), data(tape[6]),  data(tape[7]), data(tape[8]),
                                      data(tape[9]), data(tape[10]), data(tape[11])};
  run(pointers,
      UnrollGiven<T>{data(grads[0]), data(grads[1]), data(grads[2]), data(grads[3]),
                     data(grads[4])},
      out);
  return results;
}

}  // namespace aligndraw
