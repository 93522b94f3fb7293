"""`aligndraw tables`: the paper's Tables 1 and 3 for the user's models."""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

import aligndraw
from aligndraw.cli.command_sharpen import with_shared_sharpener
from aligndraw.cli.evaluate.shared import (
    add_marginal,
    add_sharpen_epsilon,
    add_shortlists,
    check_fits,
    shortlist_function,
)
from aligndraw.cli.evaluate.tables_text import markdown
from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import add_device, add_seed, describe_backends, int_at_least, named_model
from aligndraw.cli.outputs import writing
from aligndraw.cli.telling import tell
from aligndraw.data.captioned import file_checksum
from aligndraw.evaluation.parts import Parts, ProcessGroup, process_group
from aligndraw.evaluation.tables import BLOCK, ModelParts, Protocol, TableData, TableRow
from aligndraw.files import atomic_write
from aligndraw.json_files import naming, read_json
from aligndraw.lapgan.sharpen import NAMES as SHARPENER_FILES
from aligndraw.model.lapgan import NAMES as LAPGAN_FILES
from aligndraw.model.saved import CONFIG, WEIGHTS
from aligndraw.pipelines import Pipeline
from aligndraw.pipelines.shipped import find_model
from aligndraw.printable import escape

FORMAT = "aligndraw tables 2"
MODEL_FILES = WEIGHTS, CONFIG
LAPGAN = "LAPGAN"  # its name in the tables
TABLES, PARTS, PLAN = (
    "tables",
    "parts",
    "plan.json",
)  # of tables.md and tables.json; of the folder of parts, and its plan


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command to its parser."""
    defaults = Protocol()
    parser.description = (
        "Compares models by retrieval, structural similarity and bound, and on scenes by the attributes of their "
        "drawings. Writes the tables as Markdown and as JSON. Finished parts are kept: after an interruption the same "
        "command resumes, and adding a model computes that model alone."
    )
    parser.epilog = "Several processes share the work: torchrun --nproc-per-node N -m aligndraw tables ..."
    parser.add_argument(
        "--data", required=True, metavar="{scenes,DIR}", help="scenes, or a folder that `aligndraw data` wrote"
    )
    parser.add_argument(
        "--model",
        type=named_model,
        nargs="+",
        required=True,
        metavar="NAME=MODEL",
        help="models, each with its name in the tables",
    )
    parser.add_argument("--lapgan", type=Path, metavar="DIR", help="folder of a LAPGAN, which has no bound")
    parser.add_argument(
        "--sharpen", type=Path, metavar="DIR", help="folder of a sharpener, for the bound on test after sharpening"
    )
    add_sharpen_epsilon(parser)
    parser.add_argument(
        "-o", type=Path, default=Path("tables"), metavar="DIR", help="folder of the tables [%(default)s]"
    )
    parser.add_argument("--overwrite", action="store_true", help="remove the parts of other tables in the folder")
    parser.add_argument(
        "--images",
        type=int_at_least(2),
        default=defaults.images,
        metavar="N",
        help="captions per split, each with its image [%(default)s]",
    )
    parser.add_argument(
        "--samples",
        type=int_at_least(1),
        default=defaults.samples,
        metavar="K",
        help="samples of the latents per bound [%(default)s]",
    )
    parser.add_argument(
        "--drawn",
        type=int_at_least(1),
        default=defaults.drawn,
        metavar="N",
        help="drawings per test caption, compared with its image [%(default)s]",
    )
    parser.add_argument(
        "--pictures",
        type=int_at_least(1),
        default=defaults.pictures,
        metavar="N",
        help="drawings per scene, whose attributes are read [%(default)s]",
    )
    add_shortlists(parser)
    add_marginal(parser)
    parser.add_argument(
        "--threads",
        type=int_at_least(1),
        default=1,
        metavar="N",
        help="threads per process; the rounding of sums depends on it [%(default)s]",
    )
    add_seed(parser, "seed of the examples and of the noise")
    add_device(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    models = dict(arguments.model)
    if arguments.lapgan is not None:
        models = {LAPGAN: str(arguments.lapgan), **models}
    if len(models) < len(arguments.model) + (arguments.lapgan is not None):
        raise Failure("--model must have different names: give them as NAME=MODEL", status=2)
    backends = describe_backends(arguments.device)
    with process_group(arguments.threads) as group, failing(ValueError, FileNotFoundError):
        if arguments.device == "cuda":
            torch.cuda.set_device(group.rank % torch.cuda.device_count())
        return _compare(arguments, models, group, backends)


def _compare(arguments: argparse.Namespace, sources: Mapping[str, str], group: ProcessGroup, backends: str) -> int:
    protocol = Protocol(
        arguments.images,
        arguments.marginal,
        arguments.samples,
        arguments.drawn,
        arguments.pictures,
        arguments.seed,
        arguments.sharpen_epsilon,
    )
    lists = shortlist_function(arguments)
    if arguments.data == "scenes":
        data = TableData.of_scenes(protocol, lists)
    else:
        data = TableData.of_folder(Path(arguments.data), protocol, lists)
    plan = {
        "format": FORMAT,
        **data.record,
        **vars(protocol),
        "shortlists": _space(arguments),
        "shortlists_sha256": hashlib.sha256(data.lists.tobytes()).hexdigest(),
        "block": BLOCK,
        "device": arguments.device,
        "ops": backends,
        "threads": arguments.threads,
        "versions": {"aligndraw": aligndraw.__version__, "torch": torch.__version__},
    }
    folders = {name: find_model(source) for name, source in sources.items()}
    pipelines = {
        name: Pipeline.from_pretrained(source, arguments.device, sharpen=False) for name, source in sources.items()
    }
    if LAPGAN in pipelines and pipelines[LAPGAN].model.has_bound:
        raise Failure(f"--lapgan must be the folder of a LAPGAN, got a {pipelines[LAPGAN].model.config.title}")
    for name, pipeline in pipelines.items():
        check_fits(name, pipeline, data.title, data.image_shape, data.vocabulary, data.all_captions())
    keys = {
        name: _key(folder, *(MODEL_FILES if pipelines[name].model.has_bound else LAPGAN_FILES))
        for name, folder in folders.items()
    }
    sharpen = None
    if arguments.sharpen is not None:
        sharpener = next(iter(with_shared_sharpener(pipelines, arguments.sharpen).values())).sharpen
        assert sharpener is not None
        sharpen = _key(arguments.sharpen, *SHARPENER_FILES), sharpener
    models = {
        name: ModelParts(
            keys[name], pipeline.model, partial(pipeline.read, words=data.vocabulary), data, protocol, sharpen
        )
        for name, pipeline in pipelines.items()
    }
    place = arguments.o / PARTS
    if group.rank == 0:
        with writing(place):
            _begin(place, plan, arguments.overwrite)
    group.barrier()
    done = Parts(place)
    try:
        _do(done, models, group)
    except KeyboardInterrupt:
        tell("", "finished parts are kept: the same command resumes with them", error=True)
        raise
    group.barrier()
    if group.rank > 0:
        return 0
    rows = {name: TableRow.of(done, model) for name, model in models.items()}
    command = _command(arguments)
    text = markdown(rows, data, protocol, command, plan)
    record = {
        "format": FORMAT,
        "command": command,
        "plan": plan,
        "models": {
            name: {"folder": sources[name], "checksum": keys[name], **row.to_dict()} for name, row in rows.items()
        },
        "sharpener": sharpen and {"folder": str(arguments.sharpen), "checksum": sharpen[0]},
    }
    text = "\n".join(map(escape, text.split("\n")))  # it has names of models and folders
    written = {"md": text, "json": json.dumps(record, indent=2, allow_nan=False) + "\n"}
    for ending, content in written.items():
        path = arguments.o / f"{TABLES}.{ending}"
        with writing(path), atomic_write(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    tell(*text.split("\n"))
    tell(f"wrote {arguments.o / TABLES}.md and .json")
    return 0


def _space(arguments: argparse.Namespace) -> str:
    """Returns the origin of the shortlists, as text."""
    if arguments.shortlists is not None:
        return f"of {arguments.shortlists}"
    return f"nearest by {arguments.features or 'pixels'}"


def _key(folder: Path, *names: str) -> str:
    """Returns the name of a folder that identifies a model or a sharpener by its files."""
    digest = hashlib.sha256("".join(file_checksum(folder / name) for name in names).encode())
    return digest.hexdigest()[:16]


def _begin(place: Path, plan: Mapping[str, Any], overwrite: bool) -> None:
    """Makes a folder for the parts of a plan. Raises Failure where it holds parts of another."""
    path = place / PLAN
    if path.is_file():
        with failing(ValueError), naming(path, "damaged (give another folder, or remove this one)"):
            before = read_json(path)
            differing = [key for key in {**plan, **before} if plan.get(key) != before.get(key)]
        if not differing:
            return
        if not overwrite:
            changes = ", ".join(f"{key} {before.get(key)!r}, now {plan.get(key)!r}" for key in differing)
            raise Failure(f"{place} holds parts of other tables ({changes}): give another folder, or --overwrite")
    elif place.exists():
        raise Failure(f"{place} exists, and is not from `aligndraw tables`: give another folder")
    place.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(place) as new:
        new.mkdir()
        (new / PLAN).write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")


def _do(done: Parts, models: Mapping[str, ModelParts], group: ProcessGroup) -> None:
    """Computes this process's share of the parts; the first process shows a progress bar on a terminal."""
    share = done.share([part for model in models.values() for part in model.parts], group)
    titles = {
        part.name: f"{name}: {measure}"
        for name, model in models.items()
        for measure, parts in model.measures.items()
        for part in parts
    }
    with tqdm(
        total=sum(part.work for part in share),
        unit=" bounds and pictures",
        bar_format="{desc}{percentage:3.0f}%|{bar}| {remaining} left",
        dynamic_ncols=True,
        disable=None if group.rank == 0 else True,
        leave=False,
    ) as bar:
        for part in share:
            bar.set_description(escape(titles[part.name]))
            with writing(done.path(part.name)):
                done.do(part)
            bar.update(part.work)


def _command(arguments: argparse.Namespace) -> str:
    """Returns the command that repeats these tables."""
    models = [f"{name}={folder}" for name, folder in arguments.model]
    words = ["aligndraw", "tables", "--data", arguments.data, "--model", *models]
    for name in ("lapgan", "sharpen", "features", "shortlists"):
        if getattr(arguments, name) is not None:
            words += [f"--{name}", str(getattr(arguments, name))]
    if arguments.sharpen is not None:
        words += ["--sharpen-epsilon", f"{arguments.sharpen_epsilon:g}"]
    for name in ("images", "marginal", "samples", "drawn", "pictures", "seed", "threads", "device"):
        words += [f"--{name}", str(getattr(arguments, name))]
    return shlex.join([*words, "-o", str(arguments.o)])
