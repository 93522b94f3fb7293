"""What the user can mend: one line on stderr, a status that is not 0, and nothing left behind."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from refusals import refused

from aligndraw import AlignDRAW, AlignDRAWConfig
from aligndraw.data import VOCABULARY
from aligndraw.model.saved import save_model
from aligndraw.pipelines import Pipeline
from aligndraw.training.model_run import Run

SEVEN = "the digit seven is at the top left of the image"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["paint"], "invalid choice: 'paint'"),
        (["--nonsense"], "--nonsense"),
        (["sample"], "captions must be given one way: in quotes, or with --captions-file FILE"),
        (["sample", SEVEN, "--captions-file", "c.txt"], "captions must be given one way"),
        (["sample", SEVEN, "--colour", "red"], "--colour"),
        (["sample", SEVEN, "--temp", "1"], "unrecognized arguments: --temp"),
        (["sample", SEVEN, "-n", "0"], "-n: must be a whole number of at least 1, got '0'"),
        (["sample", SEVEN, "-n", "many"], "-n: must be a whole number of at least 1, got 'many'"),
        (["sample", SEVEN, "-n", "5000"], "at most 4096 pictures, got 5000: lower -n"),
        (["sample", SEVEN, "-n", "5000", "-o", "o.npz", "--animate", "a.gif"], "at most 4096 pictures, got 5000"),
        (["sample", SEVEN, "-o", "out.jpg"], "-o: must end in .png or .npz, got 'out.jpg'"),
        (["sample", SEVEN, "-o", "out"], "-o: must end in .png or .npz, got 'out'"),
        (["sample", SEVEN, "-o", ""], "-o: must end in .png or .npz, got ''"),
        (["sample", SEVEN, "--seed", "-1"], "--seed: must be a whole number of at least 0 and below 2^63, got '-1'"),
        (["sample", SEVEN, "--seed", str(2**63)], "--seed: must be a whole number of at least 0 and below 2^63, got"),
        (["sample", SEVEN, "--temperature", "-1"], "--temperature: must be a finite number of at least 0, got '-1'"),
        (
            ["sample", SEVEN, "--temperature", "nan"],
            "--temperature: must be a finite number of at least 0, got 'nan'",
        ),
        (["sample", SEVEN, "--steps", "0"], "--steps: must be a whole number of at least 1, got '0'"),
        (["sample", SEVEN, "--device", "tpu"], "--device: must be cpu or cuda, got 'tpu'"),
        (["train"], "the following arguments are required: TRAINING"),
        (["train", "imagenet"], "invalid choice: 'imagenet'"),
        (["train", "mnist", "--preset", "huge"], "--preset: invalid choice: 'huge'"),
        (["train", "mnist", "--steps", "1.5"], "--steps: must be a whole number, got '1.5'"),
        (["train", "mnist", "--steps", "0"], "steps must be a whole number of at least 1, got 0"),
        (["train", "mnist", "--clip", "hard"], "--clip: invalid choice: 'hard'"),
        (["train", "mnist", "--learning-rate", "inf"], "--learning-rate: must be a finite number, got 'inf'"),
        (["train", "mnist", "--learning-rate", "0"], "learning_rate must be above 0, got 0.0"),
        (["train", "mnist", "--image-size", "60"], "--image-size: expected 2 arguments"),
        (["train", "mnist", "--batch-size", "60"], "must be a multiple of batch_size, got 8960 and 60"),
        (["train", "mnist", "--resume", "--overwrite"], "not allowed with argument"),
        (["train", "mnist", "--resume", "--steps", "9"], "leave out --steps"),
        (["train", "mnist", "--resume", "--no-align"], "leave out --align"),
        (["train", "mnist", "--resume", "--seed", "0"], "leave out --seed"),
    ],
)
def test_usage(command, listing, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    before = listing()
    refused(command(*arguments), 2, words)
    assert listing() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--image-size", "28", "28"], "image_size must be 60 x 60 for MNIST with captions, got (28, 28)"),
        (["--channels", "3"], "channels must be 1 for MNIST with captions, got 3"),
        (["--vocabulary-size", "21"], "vocabulary_size must be 22 for MNIST with captions, got 21"),
        (["--digits", "none.npz"], "digits file none.npz does not exist"),
        (["--digits", "damaged.npz"], "digits file damaged.npz must be an .npz archive"),
        (["--digits", "few.npz"], "digits must number more than 2000"),
        (["--language-units", "300000"], "not enough memory"),
        (["--out", "damaged.npz"], "cannot write damaged.npz: File exists"),
        (["--out", "damaged.npz/run"], "cannot write damaged.npz/run: Not a directory"),
        (["--out", "/proc/run"], "cannot write /proc/run: "),
        (["--out", "model"], "model holds config.json already: give another folder, --resume or --overwrite"),
    ],
)
def test_train(train, model, digits, listing, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    digits(2000, "few.npz")
    Path("damaged.npz").write_bytes(b"PK")
    before = listing()
    refused(train(*options), 1, words)
    assert listing() == before


def test_training_that_diverges(train, listing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = listing()
    status, out, err = train("--learning-rate", "1e30", "--out", "a/b")
    refused((status, "", err), 1, "is not finite", "lower learning_rate")
    assert listing() == before


@pytest.fixture
def run(train, tmp_path):
    """A finished run."""
    assert train("--out", tmp_path / "run")[0] == 0
    return tmp_path / "run"


def edit(run, **changes):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, **changes}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda run: (run / "run.json").unlink(), "there is no run in "),
        (lambda run: (run / "run.json").write_text("{"), "run.json is damaged or foreign"),
        (lambda run: edit(run, format="other"), "its format is not aligndraw run 2"),
        (lambda run: edit(run, data=None), "run.json is damaged or foreign"),
        (lambda run: edit(run, validation_size="all"), "run.json is damaged or foreign"),
        (lambda run: edit(run, data={"name": "mnist", "path": "/none.npz", "sha256": ""}), "/none.npz does not exist"),
        (lambda run: edit(run, data={"name": "mnist", "path": None, "sha256": ""}), "package holds other data than"),
        (
            lambda run: [(c / "state.json").unlink() for c in (run / "checkpoints").iterdir()],
            "no checkpoint in ",
        ),
    ],
)
def test_resume(command, run, listing, damage, words):
    damage(run)
    before = listing()
    refused(command("train", "mnist", "--out", run, "--resume"), 1, words)
    assert listing() == before


def test_resume_with_other_pictures(train, command, digits, listing, tmp_path):
    assert train("--out", tmp_path / "run", "--digits", digits(2100))[0] == 0
    digits(2100, seed=1)
    before = listing()
    refused(command("train", "mnist", "--out", tmp_path / "run", "--resume"), 1, "holds other data than")
    assert listing() == before


@pytest.mark.parametrize("option", ["--resume", "--overwrite"])
def test_a_run_in_use(command, run, listing, option):
    before = listing()
    with Run.open(run).locked():
        refused(command("train", "mnist", "--out", run, option), 1, "another process is training in")
    assert listing() == before


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("the digit sevn is at the top left of the image", 'unknown word "sevn"'),
        ("a red bus", 'unknown words "a", "red", "bus"'),
        ("", "caption must hold at least one word"),
        (" \n ", "caption must hold at least one word"),
        ("seven " * 256, "caption must have at most 256 words, got 257"),
    ],
)
def test_captions(command, model, listing, tmp_path, caption, words):
    before = listing()
    result = command("sample", SEVEN, caption, "--model", model, "-o", tmp_path / "out.png")
    refused(result, 2, words)
    assert listing() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"{SEVEN}\na red bus\n", "captions.txt, line 2: unknown words"),
        (f"\n{SEVEN}\n\na red bus\n", "captions.txt, line 4: unknown words"),
        ("", "captions.txt must hold at least one caption, got none"),
        (" \n\n", "captions.txt must hold at least one caption, got none"),
        (f"{SEVEN}\n{SEVEN}\n\xff\n", "captions.txt, line 3: captions must be UTF-8 text"),
    ],
)
def test_lines_of_a_file_of_captions(command, model, listing, tmp_path, content, words):
    (tmp_path / "captions.txt").write_bytes(content.encode("latin-1"))
    before = listing()
    options = ("--captions-file", tmp_path / "captions.txt", "--model", model, "-o", tmp_path / "out.npz")
    refused(command("sample", *options), 2, words)
    assert listing() == before


@pytest.mark.parametrize(("file", "words"), [("none.txt", "No such file"), (".", "Is a directory")])
def test_a_file_of_captions_that_cannot_be_read(command, listing, tmp_path, monkeypatch, file, words):
    monkeypatch.chdir(tmp_path)
    before = listing()
    refused(command("sample", "--captions-file", file, "-o", "out.npz"), 1, f"cannot read {file}: {words}")
    assert listing() == before


def write_model(folder, **changes):
    config = AlignDRAWConfig(steps=2, encoder_units=6, decoder_units=5, latent_units=3, align_units=4)
    network = AlignDRAW(config.replace(**changes))
    save_model(network, VOCABULARY, folder)
    return network


def damage_model(folder, how):
    weights, config = folder / "model.safetensors", folder / "config.json"
    record = json.loads(config.read_text())
    if how == "no folder":
        weights.unlink(), config.unlink(), folder.rmdir()
    elif how == "no weights":
        weights.unlink()
    elif how == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "no weights file at all":
        weights.write_bytes(b"PK\x03\x04")
    elif how == "other weights":
        write_model(folder, latent_units=4)
        config.write_text(json.dumps(record))
    elif how == "no JSON":
        config.write_text("{")
    elif how == "other software's":
        config.write_text('{"architectures": ["Other"]}')
    elif how == "more words than the model":
        record["vocabulary"]["words"].append("bus")
        config.write_text(json.dumps(record))
    elif how == "fewer words than the model":
        record["vocabulary"]["words"].pop(3)
        config.write_text(json.dumps(record))
    elif how == "other steps":
        record["model"].pop("steps")
        config.write_text(json.dumps(record))
    elif how == "other words":
        record["vocabulary"]["words"][:2] = record["vocabulary"]["words"][1::-1]
        config.write_text(json.dumps(record))
    elif how == "not finite":
        network = write_model(folder)
        torch.nn.init.constant_(network.canvas, float("nan"))
        save_model(network, VOCABULARY, folder)
    else:
        write_model(folder, channels=2)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no folder", "there is no model in"),
        ("no weights", "there is no model in"),
        ("cut weights", "model.safetensors is damaged"),
        ("no weights file at all", "model.safetensors is damaged"),
        ("other weights", "model.safetensors does not fit config.json"),
        ("no JSON", "config.json is no model configuration"),
        ("other software's", "config.json is no model configuration"),
        (
            "more words than the model",
            "config.json is no model configuration: its vocabulary must have the 22 words of vocabulary_size, got 23",
        ),
        (
            "fewer words than the model",
            "config.json is no model configuration: its vocabulary must have the 22 words of vocabulary_size, got 21",
        ),
        ("other steps", "config.json is not the one that model.safetensors was saved with: restore both files"),
        ("other words", "config.json is not the one that model.safetensors was saved with: restore both files"),
        ("not finite", "is damaged: some parameters are not finite"),
        ("two channels", "C = 1 (grey) or 3 (colour), got [16, 2, 60, 60]"),
    ],
)
def test_models(command, model, listing, tmp_path, how, words):
    damage_model(model, how)
    before = listing()
    refused(command("sample", SEVEN, "--model", model, "-o", tmp_path / "out.png"), 1, words)
    assert listing() == before


def test_no_shipped_model(command, tmp_path, monkeypatch):
    monkeypatch.setattr("aligndraw.pipelines.shipped.SHIPPED", tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    refused(command("sample", SEVEN), 1, "run `aligndraw train mnist`", "--model DIR")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("none/out.png", "cannot write none/out.png: No such file or directory"),
        ("folder.png", "cannot write folder.png: it is a folder"),
        ("file/out.png", "cannot write file/out.png: Not a directory"),
        ("/proc/out.png", "cannot write /proc/out.png: "),
    ],
)
def test_places_that_cannot_be_written(command, model, listing, tmp_path, monkeypatch, path, words):
    monkeypatch.chdir(tmp_path)
    Path("folder.png").mkdir()
    Path("file").touch()
    before = listing()
    refused(command("sample", SEVEN, "--model", model, "-o", path), 1, words)
    assert listing() == before


def test_the_place_is_tried_before_the_model_is_read(command):
    refused(command("sample", SEVEN, "--model", "none", "-o", "none/out.png"), 1, "cannot write none/out.png")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("arguments", [["sample", SEVEN], ["train", "mnist"]])
def test_no_cuda(command, arguments):
    refused(
        command(*arguments, "--device", "cuda"),
        2,
        "--device: must be a device of this machine",
        "there is no CUDA device: torch ",
    )


# Bytecode stays unwritten: CPython 3.11 keeps a .pyc that the limit cut short, and every later import fails on it.
LIMITED = """
import resource, sys
sys.dont_write_bytecode = True
from aligndraw.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
sys.exit(main())
"""


def in_process(*arguments, code="from aligndraw.cli import main; raise SystemExit(main())", **environment):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", ["out.png", "out.npz"])
def test_a_full_disk_while_sampling(model, listing, tmp_path, name):
    before = listing()
    out = tmp_path / name
    refused(
        in_process("sample", SEVEN, "--model", model, "-o", out, code=LIMITED),
        1,
        f"cannot write {out}: File too",
    )
    assert listing() == before


def test_a_full_disk_while_training(listing, tmp_path):
    before = listing()
    out = tmp_path / "run"
    options = "--epochs 1 --epoch-size 4 --batch-size 4 --validation-size 2 --steps 1 --decoder-units 9".split()
    status, _, err = in_process("train", "mnist", "--out", out, *options, code=LIMITED)
    refused((status, "", err), 1, f"cannot write {out}: File too large")
    assert listing() == before


def test_a_training_of_another_kind_that_cannot_write(command):
    """The folder's error was told as that of a missing input."""
    refused(command("train", "features", "--out", "/proc/run"), 1, "cannot write /proc/run: ")


@pytest.mark.parametrize(
    ("arguments", "backend", "words"),
    [
        (
            ["sample", SEVEN],
            "nonsense",
            "ALIGNDRAW_BACKEND must be one of reference, cpp, cuda, triton, got 'nonsense'",
        ),
        (["train", "mnist"], "cuda", "read: backend 'cuda' was asked for and cannot run on cpu"),
    ],
)
def test_a_backend_that_cannot_run(tmp_path, monkeypatch, arguments, backend, words):
    monkeypatch.chdir(tmp_path)
    refused(in_process(*arguments, ALIGNDRAW_BACKEND=backend), 1, words)
    assert not list(tmp_path.iterdir())


def test_an_output_that_nobody_reads():
    code = "from aligndraw.cli import main; raise SystemExit(main(['info']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.wait() == 141
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.parametrize("error", [ValueError("a fault"), RuntimeError("a fault"), TypeError("a fault")])
def test_a_fault_of_the_library_shows_its_traceback(command, model, listing, tmp_path, monkeypatch, error):
    def faulty(*arguments, **options):
        raise error

    monkeypatch.setattr(Pipeline, "__call__", faulty)
    before = listing()
    with pytest.raises(type(error), match="a fault"):
        command("sample", SEVEN, "--model", model, "-o", tmp_path / "out.png")
    assert listing() == before


def test_a_fault_while_training_shows_its_traceback(train, listing, tmp_path, monkeypatch):
    def faulty(*arguments, **options):
        raise ValueError("a fault")

    monkeypatch.setattr(AlignDRAW, "forward", faulty)
    before = listing()
    with pytest.raises(ValueError, match="a fault"):
        train("--out", tmp_path / "run")
    assert listing() == before


def test_an_interruption_while_sampling(command, model, listing, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Pipeline, "__call__", interrupted)
    before = listing()
    result = command("sample", SEVEN, "--model", model, "-o", tmp_path / "out.png")
    assert result == (130, "", "aligndraw: interrupted\n")
    assert listing() == before


@pytest.mark.skipif(os.name != "posix", reason="file names are text")
def test_a_folder_whose_name_is_not_utf_8(train, command, tmp_path):
    """Training, resuming and sampling print its name with escapes alone, and read what they wrote there."""
    folder = tmp_path / os.fsdecode(b"n\xff\x1b[31m")
    results = (
        train("--out", folder),
        command("train", "mnist", "--out", folder, "--resume"),
        command("sample", SEVEN, "-n", "1", "--model", folder, "-o", tmp_path / "o.png"),
    )
    for status, out, err in results:
        assert status == 0 and "\x1b" not in out + err
    assert r"n\xff\x1b[31m/model.safetensors" in results[0][1]


def test_a_finished_run_without_its_metrics(command, run):
    """It was a traceback."""
    (run / "metrics.jsonl").unlink()
    status, out, err = command("train", "mnist", "--out", run, "--resume")
    assert status == 0 and err == f"{run / 'metrics.jsonl'} lacks the figures of 6 of 6 updates\n"
    assert "finished after 6 of 6 updates: bound unknown" in out


def test_a_record_that_cannot_be_read(command, run, monkeypatch):
    """It was "cannot write"."""
    read = Path.read_bytes

    def refusing(path):
        if path.name == "run.json":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refusing)
    result = command("train", "mnist", "--out", run, "--resume")
    refused(result, 1, f"cannot read {run / 'run.json'}: Permission denied")


@pytest.mark.parametrize("place", [".", "/", ""])
def test_a_folder_without_a_name(command, tmp_path, monkeypatch, listing, place):
    """It was "PosixPath('.') has an empty name"."""
    monkeypatch.chdir(tmp_path)
    before = listing()
    status, _, err = command("data", "scenes", "--images", 3, "--out", place)
    assert status == 2 and "--out: must name a new folder, got " in err and err.count("\n") == 1
    assert listing() == before


@pytest.mark.parametrize("name", ["lock", "metrics.jsonl", "samples"])
def test_files_of_a_run_of_the_wrong_kind(command, run, name):
    """A folder in the place of a file, a file in the place of a folder: one line names it."""
    place = run / name
    if place.is_dir():
        shutil.rmtree(place)
        place.write_text("")
    else:
        place.unlink(missing_ok=True)
        place.mkdir()
    shutil.rmtree(run / "checkpoints")
    status, _, err = command("train", "mnist", "--out", run, "--resume")
    assert status == 1 and err.count("\n") == 1 and str(place) in err
