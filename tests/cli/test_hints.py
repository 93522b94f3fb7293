"""What a command says of captions that are unlike those of training or lack quotes, and of names with typing errors."""

import json

import pytest

from aligndraw.data import open_data_set
from aligndraw.pipelines.runs import training_pairs
from aligndraw.text import WordPairs

SEVEN = "the digit seven is at the top left of the image"
WARNING = "aligndraw: warning: "


@pytest.fixture
def trained(model):
    """A model that knows the word pairs of its training captions."""
    config = model / "config.json"
    record = json.loads(config.read_text())
    record["notes"]["word_pairs"] = training_pairs(open_data_set("mnist", validation_size=2).source).to_dict()
    config.write_text(json.dumps(record))
    return model


@pytest.fixture
def sample(command, trained, tmp_path):
    """Draws one picture per caption; returns what stands on stderr."""

    def run(*captions):
        status, _, err = command("sample", *captions, "-n", 1, "--model", trained, "-o", tmp_path / "o.png")
        assert status == 0
        return err.splitlines()

    return run


def test_captions_of_the_training_are_silent(sample):
    assert (
        sample(SEVEN, "the digit 3 is on the left of the digit 8", "the digit 2 is at the top of the digit 5 .") == []
    )


def test_a_caption_unlike_them(sample):
    (line,) = sample("seven", SEVEN)
    assert line == f'{WARNING}caption "seven" is worded unlike the training captions, of which none begins with "7"'
    (line,) = sample("the")
    assert line.endswith('is worded unlike the training captions, of which none ends with "the"'), line
    lines = sample(*(f"digit {i} is at the top" for i in range(5)))
    assert (
        len(lines) == 4
        and lines[-1] == f"{WARNING}2 more captions have unknown words or are worded unlike the training captions"
    )


def test_words_without_quotes(sample):
    hint = 'aligndraw: hint: these are 3 captions of one word; for one caption, quote it: "the digit 3"'
    assert sample("the", "digit", "3")[0] == hint
    assert not [line for line in sample("the", "the digit 3") + sample("seven") if "quote" in line]


def test_the_hint_comes_before_an_error(command, ship, model):
    ship(mnist=model)
    status, _, err = command("sample", "a", "cat")
    assert status == 2 and err.splitlines()[0].endswith('for one caption, quote it: "a cat"')


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["smaple", SEVEN], "invalid choice: 'smaple', did you mean 'sample'? "),
        (["train", "minst"], "invalid choice: 'minst', did you mean 'mnist'? "),
        (["train", "mnist", "--preset", "quik"], "invalid choice: 'quik', did you mean 'quick'? "),
        (["eval", "scene"], "invalid choice: 'scene', did you mean 'scenes'? "),
        (["help"], "invalid choice: 'help', did you mean '--help'? "),
        (["version"], "invalid choice: 'version', did you mean '--version'? "),
    ],
)
def test_names_with_typing_errors(command, arguments, near):
    status, _, err = command(*arguments)
    assert status == 2 and near in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", SEVEN, "--mdoel", "mnist"], "--mdoel (did you mean --model?) (see `aligndraw sample --help`)"),
        (["train", "mnist", "--epcohs", "3", "--out", "x"], "--epcohs (did you mean --epochs?) (see"),
        (["train", "mnist", "--oot=x", "--kl_warmup", "3"], "--oot (did you mean --out?), --kl_warmup (did you mean"),
        (["train", "captioned", "--dta", "x"], "--dta (did you mean --data?) (see"),  # before the missing --out
        (["train", "mnist", "--val", "3"], "--val (did you mean --validation-size?) (see"),
        (["train", "mnist", "--lr", "0.1"], "--lr (did you mean --learning-rate?) (see"),
        (["train", "mnist", "--bs=8"], "--bs (did you mean --batch-size?) (see"),
        (["train", "mnist", "-o", "x"], "-o (did you mean --out?) (see"),
        (["train", "mnist", "--no-algin"], "--no-algin (did you mean --no-align?) (see"),
        (["sample", SEVEN, "-seed", "3"], "-seed (did you mean --seed?) (see"),
        (["sample", SEVEN, "--output", "x.png"], "--output (did you mean -o?) (see"),
        (["train", "mnist", "--scord", "3"], "--scord (see"),  # like a name of version 0.1, which is refused
        (["--verison"], "--verison (did you mean --version?) (see `aligndraw --help`)"),
        (
            ["--model", "mnist", "sample", SEVEN],
            "--model (options of a command come after it) (see `aligndraw --help`)",
        ),
        (["eval", "--seed", "3", "mnist"], "--seed (options of a command come after it) (see `aligndraw eval --help`)"),
        (["train", "mnist", "--out", "x", "more"], "more (see `aligndraw train mnist --help`)"),
    ],
)
def test_options_with_typing_errors(command, arguments, message):
    """Each in one line, although the command misses other options, or argparse takes values for captions."""
    status, out, err = command(*arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"aligndraw: error: unrecognized arguments: {message}")


def test_help_beside_a_misspelt_option(command):
    status, out, err = command("sample", "--mdoel", "x", "--help")
    assert (status, err) == (0, "") and "--model MODEL" in out


def test_a_name_near_to_none(command):
    assert "did you mean" not in command("xyz")[2]


def test_a_training_notes_the_pairs_of_its_captions(train, tmp_path):
    assert train("--out", tmp_path / "run")[0] == 0
    notes = json.loads((tmp_path / "run" / "config.json").read_text())["notes"]
    assert WordPairs.from_dict(notes["word_pairs"]).unlike(["7"]) == [("", "7")]
