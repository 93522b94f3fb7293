"""Training of skip-thoughts: the loss against the published equations, what is saved, resuming, more words."""

import numpy as np
import pytest
import torch

from aligndraw.text.skipthoughts import SkipThoughts, from_gru
from aligndraw.training.expansion import expand_vocabulary, read_word_vectors
from aligndraw.training.fit import fit
from aligndraw.training.skipthoughts import (
    SkipThoughtsConfig,
    SkipThoughtsModel,
    SkipThoughtsRecipe,
    SkipThoughtsRun,
    SkipThoughtsTrainer,
    Triples,
    save_skipthoughts,
)

TEXT = ["a b c", "b a", "c", "", "a", "b b", "a c c b", "c a", "a a a a a a", "c", "b", "d a"]
RECIPE = SkipThoughtsRecipe(epochs=3, batch_size=2, learning_rate=0.01, max_words=4)
DATA = Triples.of(TEXT, words=5, max_words=4)


def tiny(direction="uni"):
    torch.manual_seed(0)
    return SkipThoughtsModel(SkipThoughtsConfig(direction, words=5, word_units=3, units=4), 5)


def test_triples():
    """Texts and sentences that are too long part the triples; <eos>, UNK, then by frequency; others are UNK."""
    assert DATA.words == ["<eos>", "UNK", "a", "b", "c"]
    assert DATA.middles == [1, 5, 6, 10]
    assert DATA.sentences[0] == [2, 3, 4] and DATA.sentences[11] == [1, 2]
    with pytest.raises(ValueError, match="no three sentences of at most 4 words follow each other"):
        Triples.of(["a", "b", "", "a"], 5, 4)


def gru(arrays, prefix, inputs, h):
    """The published cell over a sequence, in float64: all its states."""
    W, b, U, Wx, Ux, bx = (np.float64(arrays[f"{prefix}_{n}"]) for n in ("W", "b", "U", "Wx", "Ux", "bx"))
    states = []
    for x in inputs:
        r, u = np.split(1 / (1 + np.exp(-(x @ W + h @ U + b))), 2)
        h = u * h + (1 - u) * np.tanh(x @ Wx + bx + r * (h @ Ux))
        states.append(h)
    return np.array(states)


def loss_by_hand(model, middle, following, previous):
    words = np.float64(model.words.weight.detach())
    weight, bias = (np.float64(p.detach()) for p in (model.output.weight, model.output.bias))
    names = ["encoder", "encoder_r"][: 1 + model.encoder.bidirectional]
    arrays = from_gru(model.encoder, names)
    read = words[[*middle, 0]]
    parts = [gru(arrays, name, read[::step], np.zeros(4))[-1] for name, step in zip(names, (1, -1))]
    state, loss = np.concatenate(parts), 0.0
    for decoder, told in ((model.following, following), (model.previous, previous)):
        inputs = np.concatenate([np.zeros((1, 3)), words[list(told)]])
        scores = gru(from_gru(decoder, ["d"]), "d", inputs, state) @ weight.T + bias
        log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        loss -= sum(log_p[i, word] for i, word in enumerate([*told, 0]))
    return loss


@pytest.mark.parametrize("direction", ["uni", "bi"])
def test_the_loss(direction):
    model = tiny(direction)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.5)
    triples = [([2, 3], [4], [3, 3, 2, 1]), ([4], [2, 2], [1]), ([1, 2, 3, 4], [3], [2])]
    loss, words = model(*zip(*triples))
    assert loss.item() == pytest.approx(sum(loss_by_hand(model, *triple) for triple in triples), rel=1e-5)
    assert words == sum(len(f) + len(b) + 2 for _, f, b in triples)


def test_the_first_weights():
    model = tiny()
    for gate in model.encoder.weight_hh_l0.detach().chunk(3):
        torch.testing.assert_close(gate @ gate.T, torch.eye(4))
    assert model.words.weight.abs().max() <= 0.1 < 1.5 * model.words.weight.abs().max()
    assert not model.output.bias.any() and not model.encoder.bias_ih_l0.any()


def test_it_learns_and_keeps_the_published_form():
    trainer = SkipThoughtsTrainer(tiny(), DATA, RECIPE.replace(epochs=100))
    losses = [trainer.update().loss for _ in range(200)]
    assert np.mean(losses[:4]) > 1.4 and np.mean(losses[-4:]) < 0.7
    assert not any(p.any() for name, p in trainer.model.named_parameters() if "bias_hh" in name)


def test_an_epoch_sees_every_triple_once():
    trainer = SkipThoughtsTrainer(tiny(), DATA, RECIPE)
    seen = []
    trainer.model.register_forward_pre_hook(lambda _, sentences: seen.append(sentences))
    for _ in range(4):
        trainer.update()
    sentences = DATA.sentences
    triples = {i: (sentences[i], sentences[i + 1], sentences[i - 1]) for i in DATA.middles}
    for epoch in (seen[:2], seen[2:]):
        found = [triple for batch in epoch for triple in zip(*batch)]
        assert sorted(found) == sorted(triples.values())


def test_the_gradient_is_clipped():
    trainer = SkipThoughtsTrainer(tiny(), DATA, RECIPE.replace(clip_norm=0.25))
    update = trainer.update()
    norms = [p.grad.norm() for p in trainer.model.parameters() if p.grad is not None]
    assert update.gradient_norm > 1 and torch.stack(norms).norm() == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize("direction", ["uni", "bi"])
def test_the_reader_reads_what_is_saved(direction, tmp_path):
    model = tiny(direction)
    save_skipthoughts(model, DATA.words, tmp_path)
    vectors = SkipThoughts(tmp_path, direction).encode(["a c", "b", "d"])
    for vector, ids in zip(vectors, ([2, 4], [3], [1])):
        state = model.encoder(model.words(torch.tensor([ids])))[1].flatten()
        torch.testing.assert_close(vector, (state / state.norm()).detach())


def train_skipthoughts(run, trainer, **options):
    """Whether training comes to its end."""

    def end_epoch(epoch):
        save_skipthoughts(trainer.model, trainer.data.words, run.folder)

    return fit(trainer, run, end_epoch=end_epoch, **options) == "finished"


@pytest.mark.parametrize("file", ["dictionary.txt", "uni_skip.npz", "utable.npy"])
def test_no_flipped_bit_changes_a_vector(file, tmp_path, flipped):
    """Each leads to an error that names the file, or changes nothing that is read."""
    save_skipthoughts(tiny(), DATA.words, tmp_path)
    captions = ["a c", "b", "d"]
    wanted = SkipThoughts(tmp_path, "uni").encode(captions)
    refused = 0
    for _ in flipped(tmp_path / file, 200):
        try:
            assert torch.equal(SkipThoughts(tmp_path, "uni").encode(captions), wanted)
        except ValueError as error:
            assert file in str(error) and "\n" not in str(error), error
            refused += 1
    assert refused >= {"dictionary.txt": 200, "uni_skip.npz": 100, "utable.npy": 80}[file]


def test_a_run_stopped_and_resumed_ends_the_same(tmp_path):
    def begin(folder):
        trainer = SkipThoughtsTrainer(tiny(), DATA, RECIPE)
        config = SkipThoughtsConfig(words=5, word_units=3, units=4)
        return SkipThoughtsRun.create(folder, config, RECIPE, 0), trainer

    run, whole = begin(tmp_path / "a")
    assert train_skipthoughts(run, whole, checkpoint_every=100)
    run, trainer = begin(tmp_path / "b")
    assert not train_skipthoughts(run, trainer, checkpoint_every=100, stopping=lambda: trainer.index == 3)
    trainer = SkipThoughtsTrainer(tiny(), DATA, RECIPE)
    run = SkipThoughtsRun.open(tmp_path / "b")
    assert run.restore(trainer) == [] and trainer.index == 3
    assert train_skipthoughts(run, trainer, checkpoint_every=100)
    for name in ("dictionary.txt", "utable.npy", "metrics.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_what_diverges():
    trainer = SkipThoughtsTrainer(tiny(), DATA, RECIPE)
    torch.nn.init.constant_(trainer.model.output.weight, float("inf"))
    with pytest.raises(FloatingPointError, match="loss of update 1 is not finite .*: lower learning_rate"):
        trainer.update()


def vectors_file(path, vectors):
    with path.open("wb") as file:
        file.write(f"{len(vectors)} {len(next(iter(vectors.values())))}\n".encode())
        for word, vector in vectors.items():
            numbers = vector.astype("<f4").tobytes() if path.suffix == ".bin" else " ".join(map(repr, vector.tolist()))
            numbers = numbers if isinstance(numbers, bytes) else numbers.encode()
            file.write(word.encode() + b" " + numbers + b"\n")


@pytest.mark.parametrize("name", ["v.bin", "v.txt"])
def test_more_words(name, tmp_path):
    """Where trained vectors are an affine function of word2vec's, those of all other words are found to rounding."""
    rng = np.random.default_rng(0)
    slope, offset = rng.normal(0, 1, (2, 3)), rng.normal(0, 1, 3)
    vectors = {word: rng.normal(0, 1, 2).astype(np.float32) for word in ("c", "zebra", "a", "New_York", "b", "été")}
    table = np.stack([vectors[w] @ slope + offset if w in vectors else np.full(3, 9.0) for w in DATA.words])
    vectors_file(tmp_path / name, vectors)
    assert list(dict(read_word_vectors(tmp_path / name))) == list(vectors)
    save_skipthoughts(tiny(), DATA.words, tmp_path, rule=1)
    assert expand_vocabulary(DATA.words, table, tmp_path / name, tmp_path, "uni") == 7
    assert (tmp_path / "dictionary.txt").read_text(encoding="utf-8").split() == [*DATA.words, "zebra", "été"]
    wide = np.load(tmp_path / "utable.npy")
    assert wide.dtype == np.float32
    np.testing.assert_array_equal(wide[:5], table.astype(np.float32))
    wanted = [vectors[w] @ slope + offset for w in ("zebra", "été")]
    np.testing.assert_allclose(wide[5:], wanted, rtol=0, atol=1e-6)
    assert np.load(tmp_path / "uni_skip.npz")["word_rule"] == 1
    assert len(SkipThoughts(tmp_path, "uni").encode(["a zebra", "été"])) == 2


def test_word_vectors_of_no_use(tmp_path):
    vectors_file(tmp_path / "v.bin", {"a": np.ones(2), "c": np.zeros(2)})
    with pytest.raises(ValueError, match="must share at least 3 words with the training text, got 2"):
        expand_vocabulary(DATA.words, np.zeros((5, 3)), tmp_path / "v.bin", tmp_path, "uni")
    content = (tmp_path / "v.bin").read_bytes()
    for damaged in (content[:-3], b"nothing", content[:4], b"2 -2\na ", b"2 0\na b "):
        (tmp_path / "v.bin").write_bytes(damaged)
        with pytest.raises(ValueError, match="v.bin is damaged or no word2vec file"):
            list(read_word_vectors(tmp_path / "v.bin"))


@pytest.mark.parametrize("name", ["v.bin", "v.txt"])
def test_a_head_line_that_promises_more_than_is_there(name, tmp_path):
    """No memory is taken at its word."""
    (tmp_path / name).write_bytes(b"1 1000000000000\na 1 2 3\n")
    with pytest.raises(ValueError, match=f"{name} is damaged or no word2vec file: it is too short for vectors of 1,0"):
        list(read_word_vectors(tmp_path / name))
