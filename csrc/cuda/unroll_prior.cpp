// Sampling on a GPU: 4 launches per step, two of them products, or one launch for all steps, of a
// grid that waits as a whole or of clusters.
#include "unroll_prior.h"

#include "../unroll_arrays.h"
#include "cluster_work.h"
#include "work.h"

namespace aligndraw::cuda {
namespace {

// "auto" samples up to this batch in one launch. Its blocks multiply the states by ordinary
// instructions, and PyTorch's products gain on them with the number of states.
constexpr int64_t persistent_batch = 16;

template <class T>
void run(const UnrollPriorPointers<T>& in, const UnrollPriorOutputs<T>& out, Work<T>& work) {
  const UnrollSizes& s = in.sizes;
  const int64_t B = s.batch, n = s.decoder, gates = 4 * n;
  const Matrix<const T> of_latent{in.decoder_ih, gates, s.latents, s.decoder_in()};
  const Matrix<const T> of_context{in.decoder_ih + s.latents, gates, s.word_size, s.decoder_in()};
  T* const word_gates = work.allocate(B * s.words * gates);
  work.multiply(matrix(word_gates, B * s.words, gates), matrix(in.words, B * s.words, s.word_size),
                of_context.transposed());
  const PriorLoop<T> loop{.in = in, .out = out, .word_gates = word_gates};
  T* const z = work.allocate(B * s.latents);
  const auto make_grid = [&] { return persistent_grid<T>(s); };
  const auto make_clusters = [&] { return cluster_prior_grid<T>(s); };
  if (const auto grid = clusters("unroll_prior", make_clusters)) {
    cluster::sample(loop, z, *grid, work);
  } else if (const auto grid = one_launch("unroll_prior", B <= persistent_batch, make_grid)) {
    const PersistentPrior<T> persistent{
        .loop = loop,
        .h = work.allocate(2 * B * n),
        .c = work.allocate(B * n),
        .z = z,
        .energies = work.allocate(s.attends ? B * s.words * grid->parts : 0)};
    work.check(launch_persistent(persistent, *grid, work.stream()));
  } else {
    const int64_t heads = s.read_window_at();  // without the read window
    const StackedWeights<T> of_h(work, n, {{in.heads, heads, n}, {in.decoder_hh, gates, n}});
    T* const products = work.allocate(B * of_h.row_stride());  // heads | decoder gates
    T* const latent_gates = work.allocate(B * gates);
    T* const context_gates = work.allocate(B * gates);
    T *const h = work.allocate(B * n), *const c = work.allocate(B * n);
    work.copy({in.decoder_h0, 0}, {h, n}, B, n);
    work.zero(c, B * n);
    PriorAttend<T> stage{.loop = loop,
                         .head_products = {products, of_h.row_stride()},
                         .z = z,
                         .context_gates = context_gates,
                         .t = 0};
    const LstmStep<T> decode{.terms = {{latent_gates, gates},
                                       {products + heads, of_h.row_stride()},
                                       {s.attends ? context_gates : word_gates, gates}},
                             .bias = in.decoder_bias,
                             .c = c,
                             .gates = nullptr,
                             .h = {h, n},
                             .c_next = c};
    for (; stage.t < (B ? s.steps : 0); ++stage.t) {
      of_h.forward(products, {matrix<const T>(h, B, n)});
      work.check(launch_stage(stage, work.stream()));
      work.multiply(matrix(latent_gates, B, gates), matrix<const T>(z, B, s.latents),
                    of_latent.transposed());
      work.check(launch_lstm_step(decode, B, n, work.stream()));
    }
    of_h.forward(products, {matrix<const T>(h, B, n)});
    work.check(launch_stage(stage, work.stream()));
  }
  work.check(launch_writes(loop, work.stream()));
}

}  // namespace

UnrollPriorResultTuple unroll_prior(ALIGNDRAW_UNROLL_PRIOR_PARAMETERS) {
  const UnrollPriorInputs in = ALIGNDRAW_UNROLL_PRIOR_ARGUMENTS;
  check_unroll_prior(in);
  check_counts("unroll_prior", sizes_of(in));
  const auto make = [&](std::initializer_list<int64_t> shape) {
    return torch::stable::new_empty(in.canvas, {shape.begin(), shape.size()});
  };
  const auto results = make_unroll_prior_results(sizes_of(in), make);
  const auto run_as = [&]<class T>(T) {
    Work<T> work("unroll_prior", in.canvas, false);
    run<T>(UnrollPriorArguments<T>(in), pointers_to<UnrollPriorOutputs<T>, T>(results), work);
  };
  is_double(in.canvas) ? run_as(double()) : run_as(float());
  return results;
}

}  // namespace aligndraw::cuda
