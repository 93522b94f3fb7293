#include "../rmsprop.h"

#include <cmath>

#include "cpu.h"

namespace aligndraw::cpu {

ALIGNDRAW_CLONES void rmsprop_row(float* __restrict p, float* __restrict v,
                                  const float* __restrict g, int64_t n, float scale, float lr,
                                  float decay, float eps) {
  for (int64_t j = 0; j < n; ++j) {
    const float d = scale * g[j];
    v[j] = decay * v[j] + (1 - decay) * d * d;
    p[j] -= lr * d / std::sqrt(v[j] + eps);
  }
}

void rmsprop_(std::vector<Tensor> parameters, std::vector<Tensor> squares,
              std::vector<Tensor> gradients, Tensor scales, double lr, double decay, double eps) {
  const size_t count = parameters.size();
  if (squares.size() != count || gradients.size() != count)
    fail("rmsprop_: squares and gradients must number ", count, " like parameters, got ",
         squares.size(), " and ", gradients.size());
  check_shape("rmsprop_", "scales", scales, "[n]", {int64_t(count)});
  for (size_t i = 0; i < count; ++i)
    for (const Argument& argument : {Argument{"parameters", parameters[i]},
                                     {"squares", squares[i]},
                                     {"gradients", gradients[i]},
                                     {"scales", scales}}) {
      check_plain("rmsprop_", argument);
      const auto sizes = argument.tensor.sizes(), wanted = parameters[i].sizes();
      if (argument.name != std::string("scales") &&
          !std::equal(sizes.begin(), sizes.end(), wanted.begin(), wanted.end()))
        fail("rmsprop_: ", argument.name, " must have shape ", shape_text(wanted),
             " like parameters, got ", shape_text(sizes));
    }
  const float* const scale = scales.const_data_ptr<float>();
  for (size_t i = 0; i < count; ++i) {
    float *const p = parameters[i].mutable_data_ptr<float>(), *const v =
                                                                  squares[i]
                                                                      .mutable_data_ptr<float>();
    const float* const g = gradients[i].const_data_ptr<float>();
    parallel_for(0, parameters[i].numel(), 1 << 14, [=](int64_t begin, int64_t end) {
      rmsprop_row(p + begin, v + begin, g + begin, end - begin, scale[i], lr, decay, eps);
    });
  }
}

}  // namespace aligndraw::cpu
