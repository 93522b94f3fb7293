"""What decides about CUDA graphs, with a recorder that replays by calling again: no CUDA graph is made here."""

import contextlib

import pytest
import torch
from recorder import Recorder

import aligndraw
from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.model.graphs import LENGTH_MULTIPLE, CudaRecorder, GraphedSampler, Graphs, fetchable, pad_captions

TINY = AlignDRAWConfig(steps=2, encoder_units=6, decoder_units=5, latent_units=3, language_units=4, align_units=4)


def doubled(x):
    return 2 * x


def run(graphs, x, kind="double"):
    return graphs.run(kind, doubled, x).tolist()


def test_the_first_call_warms_up_the_second_is_recorded():
    recorder = Recorder()
    graphs = Graphs(torch.device("cpu"), limit=2, recorder=recorder)
    assert [run(graphs, torch.tensor([float(i)])) for i in range(3)] == [[0.0], [2.0], [4.0]]
    assert recorder.calls == ["warm up", "record", "replay", "replay"]


def test_inputs_of_another_shape_or_dtype_or_kind_are_recorded_anew():
    graphs = Graphs(torch.device("cpu"), limit=9, recorder=Recorder())
    for x in (torch.ones(1), torch.ones(2), torch.ones(1).double()):
        for kind in ("a", "b"):
            for _ in range(2):
                run(graphs, x, kind)
    assert len(graphs) == 6


def test_a_gpu_fetches_inputs_of_a_recording_from_pinned_memory(monkeypatch):
    """Its copies from other memory once made the host wait for the GPU at each update."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda t: pinned.append(t) or t.clone())
    cuda, given = torch.device("cuda"), torch.arange(3.0)
    assert fetchable(given, cuda) is not given and pinned[0] is given
    resident, on_cpu = torch.empty(3, device="meta"), torch.device("cpu")
    assert fetchable(resident, cuda) is resident and fetchable(given, on_cpu) is given and len(pinned) == 1


def test_each_replay_fetches_its_inputs(monkeypatch):
    fetched = []
    monkeypatch.setattr("aligndraw.model.graphs.fetchable", lambda t, device: fetched.append(t) or t + 10)
    graphs = Graphs(torch.device("cpu"), 2, Recorder())
    found = [graphs.run("double", lambda t: 2 * t, torch.tensor([float(i)])).item() for i in range(4)]
    assert found == [0.0, 22.0, 24.0, 26.0] and [t.item() for t in fetched] == [1.0, 2.0, 3.0]


def test_what_was_not_used_for_longest_goes_first():
    recorder = Recorder()
    graphs = Graphs(torch.device("cpu"), limit=2, recorder=recorder)

    def use(size):
        del recorder.calls[:]
        run(graphs, torch.ones(size))
        return recorder.calls[0]

    for size in (1, 2):
        use(size), use(size)
    use(1)
    use(3), use(3)  # 2 goes
    assert len(graphs) == 2
    assert [use(1), use(3), use(2)] == ["replay", "replay", "record"]
    assert len(graphs) == 2


def test_a_refused_recording_leaves_the_stream_as_it_was(monkeypatch):
    """Of PyTorch's own graphs, which stay on theirs."""
    current = ["the caller's"]

    class Graph:
        def __init__(self, graph, stream):
            self.stream = stream

        def __enter__(self):
            current[0] = self.stream

        def __exit__(self, *args):
            raise RuntimeError("operation failed due to a previous error during capture")

    names = {
        "graph": Graph, "CUDAGraph": object, "Stream": lambda *args: "the graph's", "device": contextlib.nullcontext,
        "current_stream": lambda *args: current[0], "set_stream": lambda stream: current.__setitem__(0, stream),
    }  # fmt: skip
    for name, stand_in in names.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    recorder = CudaRecorder(torch.device("cuda:0"))
    with pytest.raises(RuntimeError, match="previous error during capture"):
        recorder.record(doubled, (torch.ones(1),))
    assert current == ["the caller's"]


def test_what_cannot_be_recorded_is_called_as_it_is_and_says_so():
    graphs = Graphs(torch.device("cpu"), limit=2, recorder=Recorder(broken=True))
    assert [run(graphs, torch.tensor([float(i)])) for i in range(3)] == [[0.0], [2.0], [4.0]]
    assert graphs.reason == "CUDA cannot record it: operation not permitted when stream is capturing"
    assert Graphs(torch.device("cpu"), limit=2).reason == "there are no CUDA graphs on cpu"


@pytest.mark.parametrize("align", [True, False])
def test_a_graphed_sampler_draws_what_sample_draws(align):
    torch.manual_seed(0)
    model, recorder = AlignDRAW(TINY.replace(align=align)), Recorder()
    sampler = GraphedSampler(model, recorder=recorder)
    drawings = []
    for index, (batch, words) in enumerate([(2, 5), (2, 6), (2, 8), (2, 9), (3, 5), (2, 5)]):
        captions, lengths = torch.randint(22, (batch, words)), torch.full((batch,), words - 1)
        streams = [torch.Generator().manual_seed(10 * index + i) for i in range(batch)]
        drawing = sampler.sample(captions, lengths, streams, temperature=0.5)
        for g in streams:
            g.manual_seed(g.initial_seed())
        truth = model.sample(captions, lengths, generator=streams, temperature=0.5)
        torch.testing.assert_close(drawing.images, truth.images)
        torch.testing.assert_close(drawing.canvases, truth.canvases)
        assert drawing.weights is None or drawing.weights.shape == truth.weights.shape
        drawings.append((drawing, drawing.images.clone()))
    # 5, 6 and 8 words are one bucket; 9 words and three captions are two others, seen once each.
    assert recorder.calls == ["warm up", "record", "replay", "replay", "warm up", "warm up", "replay"]
    assert all(torch.equal(drawing.images, then) for drawing, then in drawings)  # no later call wrote there


def test_a_graphed_sampler_knows_where_the_parameters_are():
    model, recorder = AlignDRAW(TINY), Recorder()
    sampler = GraphedSampler(model, recorder=recorder)
    arguments = torch.randint(22, (2, 3)), torch.tensor([3, 3])
    sampler.sample(*arguments), sampler.sample(*arguments)
    with torch.no_grad():
        model.canvas.add_(1)  # in place: the graph sees it
    assert "replay" == (sampler.sample(*arguments), recorder.calls[-1])[1]
    model.canvas = torch.nn.Parameter(model.canvas.detach() + 1)
    sampler.sample(*arguments)
    assert recorder.calls[-1] == "warm up"


def test_a_model_that_goes_step_by_step_is_not_graphed():
    model, recorder = AlignDRAW(TINY), Recorder()
    sampler = GraphedSampler(model, recorder=recorder)
    with aligndraw.use_backend("reference"):
        sampler.sample(torch.randint(22, (2, 3)), torch.tensor([3, 3]))
    assert recorder.calls == []


def test_captions_are_padded_to_buckets():
    for words in (1, 7, 8, 9, 16):
        captions = torch.ones(2, words, dtype=torch.int64)
        wide = pad_captions(captions)
        assert wide.shape[1] % LENGTH_MULTIPLE == 0 and wide.shape[1] - words < LENGTH_MULTIPLE
        assert torch.equal(wide[:, :words], captions) and not wide[:, words:].any()
