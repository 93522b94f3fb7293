"""aligndraw train mnist: what it writes, stops and takes up again."""

import json
import shlex
import shutil
import signal
import sys

import pytest
import torch
from PIL import Image
from stopping import stop_at

from aligndraw import AlignDRAWConfig, TrainingConfig
from aligndraw.cli import _parser
from aligndraw.cli.options import apply_overrides
from aligndraw.cli.train.drawing import DrawingJob
from aligndraw.data import BANS, VOCABULARY, load_digits, open_data_set
from aligndraw.model.saved import load_model
from aligndraw.pipelines import new_run, resumed_run
from aligndraw.presets import PRESETS
from aligndraw.training import Trainer

CAPTIONS = open_data_set("mnist", validation_size=1).preview_captions
CONFIGS = {
    (data, preset, model, i): config
    for data, presets in PRESETS.items()
    for preset, models in presets.items()
    for model, configs in models.items()
    for i, config in enumerate(configs)
    if data != "scenes" and model not in ("align", "noalign")  # those of the others
}
FIELDS = [(*place, f) for place, config in CONFIGS.items() for f in config.__dataclass_fields__]
OTHER = {"image_size": (28, 30), "epoch_size": 6400, "batch_size": 20}
NEEDS = {  # the values that another field must have for the field to change
    "word_values": {"align": True},
    "word_keys": {"align": True},
    "attention_scale": {"align": True},
    "attention_query": {"align": True},
    "shape_units": {"align": True},
}


def other_value(field, now):
    """A value of a field that is not the preset's."""
    if field.name in OTHER:
        return OTHER[field.name]
    if field.metadata["choices"]:
        return next(c for c in field.metadata["choices"] if c != now)
    if isinstance(now, bool):
        return not now
    if isinstance(now, str):
        return "bi-skip:folder"
    return now + 1 if isinstance(now, int) else now / 2 or 0.5  # some fractions must stay below 1


@pytest.mark.parametrize(("data", "preset", "model", "i", "name"), FIELDS)
def test_every_field_has_an_option(data, preset, model, i, name):
    config, needs = CONFIGS[data, preset, model, i], NEEDS.get(name, {})
    value = other_value(config.__dataclass_fields__[name], getattr(config, name))
    given = []
    for field, wanted in {**needs, name: value}.items():
        option = field.replace("_", "-")
        if isinstance(wanted, bool):
            given.append(f"--{option}" if wanted else f"--no-{option}")
        else:
            given += [f"--{option}", *map(str, wanted if isinstance(wanted, tuple) else (wanted,))]
    changed = apply_overrides(config, _parser().parse_args(["train", data, *given]))
    assert changed == config.replace(**needs, **{name: value}) != config


def test_help_tells_of_every_field(command):
    status, out, _ = command("train", "mnist", "--help")
    text = " ".join(out.split())
    assert status == 0
    for config in (AlignDRAWConfig, TrainingConfig):
        for field in config.__dataclass_fields__.values():
            assert field.metadata["help"] in text
    assert "[quick: 8, best: 12, paper: 32]" in text
    assert "[60 60]" in text
    assert text.index(" model: --image-size") < text.index(" training: --epochs")
    assert "fc-vae" not in text
    text = " ".join(command("train", "captioned", "--help")[1].split())
    assert text.index("--model fc-vae, whose likelihood is gaussian: --hidden-units") < text.index(" training: ")
    assert "[scenes: 512, photos: 512, coco: 1000]" in text and "[scenes: 32, photos: 32, coco: 64]" in text


@pytest.fixture
def trained(train, tmp_path):
    folder, before = tmp_path / "run", signal.getsignal(signal.SIGINT)
    result = train("--out", folder, "--seed", 3)
    assert signal.getsignal(signal.SIGINT) is before
    return folder, *result


def test_what_it_says(trained):
    folder, status, out, err = trained
    lines = out.splitlines()
    assert (status, err) == (0, "")
    parameters = sum(p.numel() for p in load_model(folder)[0].parameters())
    wanted = f"training alignDRAW of {parameters:,} parameters on MNIST with captions: preset quick, "
    assert lines[0].startswith(wanted)
    assert "2 epochs of 12 images in batches of 4, muon at 0.002; " in lines[0] and lines[0].endswith("; cpu")
    assert lines[1].startswith("epoch 1/2: bound in nats ") and lines[2].startswith("epoch 2/2: bound ")
    assert lines[3] == lines[2].replace("epoch 2/2", "finished after 6 of 6 updates")
    assert str(folder / "model.safetensors") in lines[4]
    assert str(folder / "samples.png") in lines[5]
    assert lines[6] == f"next: aligndraw sample '{CAPTIONS[0][0]}' --model {folder}"
    assert len(lines) == 7


def test_on_a_gpu_it_says_whether_updates_come_from_graphs(tmp_path):
    data = open_data_set("mnist")
    model = AlignDRAWConfig(steps=1, encoder_units=2, decoder_units=2, latent_units=2, language_units=2, align_units=2)
    with new_run(tmp_path / "run", model, TrainingConfig.preset("paper"), data) as job:

        def described(device):
            return DrawingJob(job, "mnist", device, "cpp ops").describe()

        reason = "no CUDA graphs (there are no CUDA graphs on cpu)"
        assert described("cuda").endswith(f", float32 products, {reason}, cpp ops")
        assert described("cpu").endswith(", float32 products, cpp ops")
        job.trainer.graphs.reason = ""
        assert described("cuda:1").endswith(", updates from CUDA graphs, cpp ops")


def test_what_it_writes(trained):
    folder = trained[0]
    assert {p.name for p in folder.iterdir()} == {
        *("run.json", "metrics.jsonl", "checkpoints", "lock"),
        *("model.safetensors", "config.json", "samples", "samples.png"),
    }
    sheets = [folder / "samples.png", *sorted((folder / "samples").iterdir())]
    assert [s.name for s in sheets] == ["samples.png", "epoch-0001.png", "epoch-0002.png"]
    assert Image.open(sheets[0]).text["Caption"].splitlines() == [text for text, _ in CAPTIONS]
    assert sheets[0].read_bytes() == sheets[2].read_bytes()
    record = json.loads((folder / "run.json").read_text())
    assert (record["seed"], record["preset"], record["validation_size"]) == (3, "quick", 3)
    assert record["versions"]["torch"] == torch.__version__
    assert record["data"]["path"] is None
    model, vocabulary, notes = load_model(folder)
    assert (vocabulary, notes["updates"], model.config.decoder_units) == (VOCABULARY, 6, 5)


def test_the_next_command_works(trained, command, tmp_path, monkeypatch):
    folder, _, out, _ = trained
    monkeypatch.chdir(tmp_path)
    caption = shlex.split(out.splitlines()[-1])[3]
    assert command("sample", caption, "--model", folder)[0] == 0


def test_captions_shown():
    """All corners, both wordings of both relations; and the held-out placements are marked."""
    text = [caption for caption, _ in CAPTIONS]
    for corner in ("top left", "top right", "bottom left", "bottom right"):
        assert any(f"at the {corner} of the image" in t for t in text)
    for relation in ("on the left of", "on the right of", "at the top of", "at the bottom of"):
        assert any(f"{relation} the digit" in t for t in text)
    marked = [t for t, remark in CAPTIONS if remark]
    assert "the digit six is at the top left of the image" in marked and len(marked) == 4


def test_a_seed_gives_the_same_run(train, trained, tmp_path):
    folder = trained[0]
    train("--out", tmp_path / "again", "--seed", 3)
    train("--out", tmp_path / "other", "--seed", 4)
    weights = [(tmp_path / f / "model.safetensors").read_bytes() for f in (folder, "again", "other")]
    assert weights[0] == weights[1] != weights[2]


def test_overwrite(train, trained, tmp_path):
    """The run goes with all its files; what else is in the folder stays."""
    folder = trained[0]
    (folder / "mine.txt").write_text("mine")
    (folder / "samples" / "mine.png").write_text("mine")
    (folder / "samples" / "epoch-0007.png").write_text("of the old run")
    status, _, err = train("--out", folder, "--epochs", 1, "--overwrite")
    assert (status, err) == (0, "")
    assert (folder / "mine.txt").exists()
    assert {p.name for p in (folder / "samples").iterdir()} == {"mine.png", "epoch-0001.png"}
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["update-00000003"]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("number", [2, 3, 4])
def test_stopped_and_taken_up_again(train, command, trained, tmp_path, monkeypatch, number, kind):
    folder = tmp_path / "stopped"
    before = signal.getsignal(kind)
    with monkeypatch.context() as patch:
        stop_at(patch, number, kind)
        status, out, err = train("--out", folder, "--seed", 3)
    assert status == 130
    assert f"stopped after {number} of 6 updates; go on with: aligndraw train mnist --out {folder} --resume" in err
    assert "Traceback" not in err
    assert signal.getsignal(kind) is before
    assert load_model(folder)[2]["updates"] == number
    status, out, err = command("train", "mnist", "--out", folder, "--resume")
    assert (status, err) == (0, "")
    assert f", from update {number} on; cpu" in out
    for name in ("model.safetensors", "metrics.jsonl", "samples.png"):
        same = (folder / name).read_bytes() == (trained[0] / name).read_bytes()
        assert same or name == "samples.png"  # which names the folder


def test_the_second_interruption_is_not_waited_for(train, listing, tmp_path, monkeypatch):
    before = listing()
    stop_at(monkeypatch, 2, times=2)
    # A test run in the background of a shell is born with Ctrl-C ignored.
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status, _, err = train("--out", tmp_path / "run")
    finally:
        signal.signal(signal.SIGINT, outside)
    assert status == 130
    assert err.splitlines()[-1] == "aligndraw: interrupted"
    assert listing() == before


def test_resuming_a_finished_run(command, trained):
    folder = trained[0]
    before = (folder / "model.safetensors").read_bytes()
    status, out, err = command("train", "mnist", "--out", folder, "--resume")
    assert (status, err) == (0, "")
    assert "finished after 6 of 6 updates" in out
    assert (folder / "model.safetensors").read_bytes() == before


def test_resuming_passes_over_a_damaged_checkpoint(command, trained):
    folder = trained[0]
    newest = folder / "checkpoints" / "update-00000006"
    (newest / "state.json").write_text("{}")
    status, _, err = command("train", "mnist", "--out", folder, "--resume")
    assert status == 0
    assert err.startswith(f"passed over: {newest}") and len(err.splitlines()) == 1


def test_resuming_in_other_conditions_says_so(command, trained):
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        status, _, err = command("train", "mnist", "--out", trained[0], "--resume")
    finally:
        torch.set_num_threads(threads)
    told = f"this training goes on to rounding, not to the bit: threads was {threads} and is {threads + 1}\n"
    assert (status, err) == (0, told)


def test_own_digits(train, command, digits, tmp_path, monkeypatch):
    """The file is found again from another working folder."""
    monkeypatch.chdir(digits(2100).parent)
    with monkeypatch.context() as patch:
        stop_at(patch, 4)
        status, _, err = train("--out", tmp_path / "run", "--digits", "digits.npz")
    assert status == 130, err
    monkeypatch.chdir("/")
    status, _, err = command("train", "mnist", "--out", tmp_path / "run", "--resume")
    assert (status, err) == (0, "")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["data"]["path"] == str(tmp_path / "digits.npz")
    assert len(load_digits(record["data"]["path"])) == 2100


def test_bans(train, command, tmp_path, monkeypatch):
    """A stopped training under the authors' bans goes on under them, and its model says so."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_at(patch, 4)
        status, out, _ = train("--out", folder, "--bans", "authors")
    assert status == 130 and " parameters on MNIST with captions, authors bans: preset quick, " in out
    status, _, err = command("train", "mnist", "--out", folder, "--resume", "--bans", "strict")
    assert status == 2 and "--resume keeps the settings of the run: leave out --bans" in err
    status, out, err = command("train", "mnist", "--out", folder, "--resume")
    assert (status, err) == (0, "") and "MNIST with captions, authors bans" in out
    with resumed_run(folder) as job:
        assert job.data.source.bans is BANS["authors"]
    assert load_model(folder)[2]["data"]["bans"] == "authors"
    shown = Image.open(folder / "samples.png").text["Caption"].splitlines()
    assert "the digit one is at the top left of the image" in shown  # which they hold out


def test_bans_are_of_digits_alone(command, tmp_path):
    status, out, err = command("train", "scenes", "--out", tmp_path / "run", "--bans", "strict")
    assert (status, out) == (2, "") and "--bans" in err


def test_patience(train, tmp_path):
    options = ("--epochs", 50, "--patience", 1, "--learning-rate", 1e-12)
    status, out, _ = train("--out", tmp_path / "run", *options)
    assert status == 0
    assert "\nno better bound after 6 of 150 updates: bound " in out


def events(folder):
    """Every scalar below a folder: {tag: [(step, value), ...]}, what resuming has hidden left out."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    shown = accumulator.EventAccumulator(str(folder))
    shown.Reload()
    return {tag: [(e.step, e.value) for e in shown.Scalars(tag)] for tag in shown.Tags()["scalars"]}


def numbers(folder):
    """What the metrics hold, as events."""
    found = {}
    for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()):
        if "epoch" in line:
            for kind in ("seen", "held_out"):
                for name in ("bound", "kl", "nll"):
                    value = line[kind][name]["mean"]
                    found.setdefault(f"epoch/{kind}/{name}", []).append((line["update"], pytest.approx(value)))
        else:
            for name in line.keys() - {"update"}:
                found.setdefault(f"update/{name}", []).append((line["update"], pytest.approx(line[name])))
    return found


def test_tensorboard(train, command, tmp_path, monkeypatch):
    """The events are the metrics, of a run that was killed and resumed too."""
    pytest.importorskip("tensorboard")
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:  # as if killed after the second epoch was scored, before its checkpoint
        stop_at(patch, 6)
        assert train("--out", folder, "--tensorboard")[0] == 130
    shutil.rmtree(folder / "checkpoints" / "update-00000006")
    status, _, err = command("train", "mnist", "--out", folder, "--resume", "--tensorboard")
    assert (status, err) == (0, "")
    assert events(folder / "tensorboard") == numbers(folder)
    assert len(numbers(folder)["update/kl"]) == 6
    assert train("--out", folder, "--overwrite")[0] == 0
    assert not (folder / "tensorboard").exists()


def test_no_tensorboard(train, tmp_path, listing, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    before = listing()
    status, out, err = train("--out", tmp_path / "run", "--tensorboard")
    assert (status, out) == (1, "") and listing() == before
    assert err.startswith("aligndraw: error: --tensorboard needs the package tensorboard: pip install tensorboard")
    assert train("--out", tmp_path / "run")[0] == 0


def test_the_command_skips_and_counts(train, tmp_path, monkeypatch):
    """One line per batch, and the count at the end; the metrics stay readable."""
    gradient = Trainer._gradient

    def spoiled(self, *tensors, **options):
        measured, scales = gradient(self, *tensors, **options)
        return measured * (float("nan") if self.index == 2 else 1.0), scales

    monkeypatch.setattr(Trainer, "_gradient", spoiled)
    status, out, err = train("--out", tmp_path / "run", "--skip-batches", 1)
    assert status == 0 and "finished after 6 of 6 updates" in out
    told = err.splitlines()
    assert told[0].startswith("skipped: the loss of update 3 is not finite (KL nan, NLL nan nats) on examples 9 to 12")
    assert told[1:] == ["skipped 1 of 6 batches, whose numbers were not finite"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines if "epoch" not in line] == [1, 2, 3, 4, 5, 6]
    status, _, err = train("--out", tmp_path / "other")
    assert status == 1 and err.count("\n") == 1 and "no checkpoint was saved" in err
    assert not (tmp_path / "other" / "run.json").exists()
