// Sampling on a GPU: in 4 launches a step, two of which are products, or all steps in one launch.
#include "unroll_prior.h"

#include "../unroll_prior.h"
#include "work.h"

namespace aligndraw::cuda {
namespace {

// Up to this batch all steps are one launch by themselves: its blocks multiply the states by
// ordinary instructions, and PyTorch's products are the better the more states there are.
constexpr int64_t persistent_batch = 16;

template <class T>
UnrollPriorResults run(const UnrollPriorInputs& in) {
  UnrollSizes s{};
  s.batch = in.noise.size(0), s.steps = in.noise.size(1), s.latents = in.noise.size(2);
  s.channels = in.canvas.size(0), s.height = in.canvas.size(1), s.width = in.canvas.size(2);
  s.words = in.words.size(1), s.word_size = in.words.size(2);
  s.units = in.score ? in.score->size(0) : 0;
  s.decoder = in.decoder_h0.size(0), s.write_size = in.write_size;
  const int64_t B = s.batch, n = s.decoder, gates = 4 * n, d = s.word_size, z_size = s.latents;

  Work<T> work("unroll_prior", in.canvas, false);
  std::vector<Tensor> kept;
  const auto data = [&](const Tensor& tensor) {
    kept.push_back(as_contiguous(tensor));
    return kept.back().template const_data_ptr<T>();
  };
  const Tensor lengths = as_contiguous(in.lengths);
  const T *const decoder_ih = data(in.decoder_ih), *const decoder_hh = data(in.decoder_hh);
  const T *const heads = data(in.heads), *const h0 = data(in.decoder_h0);
  const Matrix<const T> of_latent{decoder_ih, gates, z_size, z_size + d};
  const Matrix<const T> of_context{decoder_ih + z_size, gates, d, z_size + d};
  const auto tensor = [&](std::initializer_list<int64_t> shape) {
    return torch::stable::new_empty(in.canvas, {shape.begin(), shape.size()});
  };
  const Tensor canvas = tensor({B, s.channels, s.height, s.width});
  const Tensor patches = tensor({s.steps, B, s.channels, s.write_size, s.write_size});
  const Tensor windows = tensor({s.steps, B, 5});
  const Tensor weights = tensor({s.steps, B, in.keys ? s.words : 0});

  T* const pushes = work.room(B * s.words * gates);
  work.multiply(matrix(pushes, B * s.words, gates), matrix(data(in.words), B * s.words, d),
                of_context.transposed());
  const Prior<T> prior{in.keys ? data(*in.keys) : nullptr,
                       in.score ? data(*in.score) : nullptr,
                       pushes,
                       lengths.const_data_ptr<int64_t>(),
                       data(in.noise),
                       data(in.heads_bias),
                       data(in.decoder_bias),
                       patches.mutable_data_ptr<T>(),
                       windows.mutable_data_ptr<T>(),
                       weights.mutable_data_ptr<T>()};
  T* const z = work.room(B * z_size);
  const auto make_fit = [&] { return persistent_fit<T>(s); };
  if (const auto fit = one_launch("unroll_prior", B <= persistent_batch, make_fit)) {
    T* const h = work.room(2 * B * n);
    T* const c = work.room(B * n);
    T* const energies = work.room(in.keys ? B * s.words * fit->parts : 0);
    work.check(launch_persistent(
        Persistent<T>{prior, heads, decoder_ih, decoder_hh, h0, h, c, z, energies}, s, *fit,
        work.stream()));
  } else {
    const int64_t said = s.read_window_at();  // the heads without the read window
    const Consumers<T> of_h(work, n, {{heads, said, n}, {decoder_hh, gates, n}});
    T *const spoken = work.room(B * of_h.columns()), *const drawn = work.room(B * gates);
    T *const push = work.room(B * gates), *const h = work.room(B * n), *const c = work.room(B * n);
    work.copy({h0, 0}, {h, n}, B, n);
    work.zero(c, B * n);
    Think<T> step{prior, {spoken, of_h.columns()}, z, push, 0};
    for (; step.t < (B ? s.steps : 0); ++step.t) {
      of_h.forward(spoken, h, B, nullptr);
      work.check(launch_think(step, s, work.stream()));
      work.multiply(matrix(drawn, B, gates), matrix<const T>(z, B, z_size), of_latent.transposed());
      work.check(launch_lstm_step(
          LstmStep<T>{
              {{drawn, gates}, {spoken + said, of_h.columns()}, {in.keys ? push : pushes, gates}},
              prior.decoder_bias,
              c,
              nullptr,
              h,
              c},
          B, n, work.stream()));
    }
    of_h.forward(spoken, h, B, nullptr);
    work.check(launch_think(step, s, work.stream()));
  }
  work.check(launch_writes<T>(data(in.canvas), prior.patches, prior.windows,
                              canvas.mutable_data_ptr<T>(), s, work.stream()));
  return {canvas, patches, windows, weights};
}

}  // namespace

UnrollPriorResults unroll_prior(ALIGNDRAW_UNROLL_PRIOR_PARAMETERS) {
  const UnrollPriorInputs in{ALIGNDRAW_UNROLL_PRIOR_ARGUMENTS};
  check_unroll_prior(in);
  return is_double(canvas) ? run<double>(in) : run<float>(in);
}

}  // namespace aligndraw::cuda
