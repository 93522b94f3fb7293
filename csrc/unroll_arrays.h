// From the tensors of unroll.h and unroll_prior.h to memory, on any device.
#pragma once
#include <vector>

#include "unroll.h"
#include "unroll_pointers.h"
#include "unroll_prior.h"

namespace aligndraw {

// Tensors as contiguous memory, which lives as long as this object.
class ContiguousMemory {
 public:
  template <class T>
  const T* of(const Tensor& tensor) {
    kept_.push_back(as_contiguous(tensor));
    return kept_.back().template const_data_ptr<T>();
  }
  template <class T>
  const T* of(const std::optional<Tensor>& tensor) {
    return tensor ? of<T>(*tensor) : nullptr;
  }

 private:
  std::vector<Tensor> kept_;
};

// The arguments of unroll.
template <class T>
struct UnrollArguments : UnrollPointers<T> {
  explicit UnrollArguments(const UnrollInputs& in) : bf16(in.bf16) {
    this->sizes = sizes_of(in);
#define FIELD(name, ...) this->name = memory_.of<T>(in.name);
#define LENGTHS(name, ...) this->name = memory_.of<int64_t>(in.name);
    ALIGNDRAW_UNROLL_INPUTS(FIELD, FIELD, LENGTHS)
#undef FIELD
#undef LENGTHS
  }

  const bool bf16;

 private:
  ContiguousMemory memory_;
};

// The arguments of unroll_prior.
template <class T>
struct UnrollPriorArguments : UnrollPriorPointers<T> {
  explicit UnrollPriorArguments(const UnrollPriorInputs& in) {
    this->sizes = sizes_of(in);
#define FIELD(name, ...) this->name = memory_.of<T>(in.name);
#define LENGTHS(name, ...) this->name = memory_.of<int64_t>(in.name);
    ALIGNDRAW_UNROLL_PRIOR_INPUTS(FIELD, FIELD, LENGTHS)
#undef FIELD
#undef LENGTHS
  }

 private:
  ContiguousMemory memory_;
};

// The results of unroll in tensors that make(shape) returns, before they have values.
template <class Make>
UnrollResultTuple make_unroll_results(const UnrollSizes& s, const Make& make) {
  ALIGNDRAW_UNROLL_LETTERS(s);
#define FIELD(name, ...) make({__VA_ARGS__}),
  return UnrollResultTuple{ALIGNDRAW_UNROLL_RESULTS(FIELD) ALIGNDRAW_UNROLL_TAPE(FIELD)};
#undef FIELD
}
template <class Make>
UnrollPriorResultTuple make_unroll_prior_results(const UnrollSizes& s, const Make& make) {
  ALIGNDRAW_UNROLL_LETTERS(s);
#define FIELD(name, ...) make({__VA_ARGS__}),
  return UnrollPriorResultTuple{ALIGNDRAW_UNROLL_PRIOR_RESULTS(FIELD)};
#undef FIELD
}

// Pointers to the tensors of a tuple, as a struct of the same list.
template <class Pointers, class T, class Tuple>
Pointers pointers_to(const Tuple& tensors) {
  return std::apply(
      [](const auto&... tensor) { return Pointers{tensor.template mutable_data_ptr<T>()...}; },
      tensors);
}

// The results of unroll, after run(pointers to them).
template <class T, class Make, class Run>
UnrollResultTuple unroll_results(const UnrollInputs& in, const Make& make, const Run& run) {
  const UnrollResultTuple results = make_unroll_results(sizes_of(in), make);
  run(pointers_to<UnrollOutputs<T>, T>(results));
  return results;
}

// The gradients, after run(tape, grads of the results, grads of the arguments).
template <class T, class Run>
UnrollGradTuple unroll_grads(const UnrollBackwardInputs& backward, const Run& run) {
  const UnrollInputs& in = backward.in;
  const Tensor none = torch::stable::new_empty(in.image, {0});
  const auto like = [&](const Tensor& tensor) {
    const bool wanted = backward.image_grad || &tensor != &in.image;
    return wanted ? torch::stable::new_empty(tensor, tensor.sizes()) : none;
  };
#define FIELD(name, ...) like(in.name),
#define OPTIONAL(name, ...) in.name ? like(*in.name) : none,
  UnrollGradTuple results{ALIGNDRAW_UNROLL_GRADS(FIELD, OPTIONAL)};
#undef FIELD
#undef OPTIONAL
  auto out = pointers_to<UnrollGrads<T>, T>(results);
  if (!backward.image_grad) out.image = nullptr;
  if (!in.keys) out.keys = nullptr;
  if (!in.score) out.score = nullptr;
  ContiguousMemory memory;
#define FIELD(name, ...) .name = memory.of<T>(backward.tape.name),
  const UnrollTape<T> tape{.weights = memory.of<T>(backward.weights), ALIGNDRAW_UNROLL_TAPE(FIELD)};
#undef FIELD
#define FIELD(name, ...) .name = memory.of<T>(backward.grads.name),
  const UnrollResultGrads<T> grads{ALIGNDRAW_UNROLL_RESULTS(FIELD)};
#undef FIELD
  run(tape, grads, out);
  return results;
}

}  // namespace aligndraw
