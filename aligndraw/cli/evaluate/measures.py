"""`aligndraw eval retrieval` and `similarity`: the measures of the paper's Table 1 (section 4.1.3)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

import aligndraw
from aligndraw.cli.evaluate.shared import (
    COMBINATIONS,
    Evaluation,
    add_evaluation,
    add_marginal,
    add_sharpening,
    add_shortlists,
    open_evaluation,
    shortlist_function,
    summary,
    write_numbers,
)
from aligndraw.cli.failure import Failure, failing
from aligndraw.cli.options import describe_backends, int_at_least
from aligndraw.cli.outputs import check_file, check_files, writing
from aligndraw.cli.telling import tell
from aligndraw.data import Examples, Scenes, evaluation_scenes
from aligndraw.evaluation.nearest import nearest_images
from aligndraw.evaluation.retrieval import (
    SHORTLIST,
    Likelihoods,
    Reference,
    encode_examples,
    mean_caption,
    retrieve,
)
from aligndraw.evaluation.similarity import score_similarity
from aligndraw.lapgan.captioned import CaptionedSharpener
from aligndraw.model import has_bound
from aligndraw.noise import stream
from aligndraw.printable import counted
from aligndraw.viz import Captioned, contact_sheet, save_png

TRAINING_COUNT = 10_000  # captions of the mean caption, and scenes to search for the nearest
QUERY_COUNT = 100  # drawn pictures of each kind whose nearest training pictures are searched
PREVIEW_COUNT, NEIGHBOURS = 12, 3  # captions on a sheet, and training pictures beside each


class Part(NamedTuple):
    """Pictures, each once, with their captions."""

    images: NDArray[np.uint8]  # [n, C, H, W]
    examples: Examples  # k captions
    image_index: NDArray[np.int64]  # [k], the image of each


def add_to(sets: Any) -> None:
    """Adds the two commands to the subparsers of `aligndraw eval`."""
    parser = sets.add_parser(
        "retrieval",
        help="how well captions find their pictures, by the model's likelihood",
        description="Ranks pictures by their likelihood given a caption, relative to that given the mean caption, as "
        "in the paper, and to that without a caption. Prints the share of captions that find their picture among the "
        "first K, and the median rank.",
    )
    _add_data(parser, "to search for")
    add_sharpening(parser, "use the likelihoods of pictures as sharpened by")
    parser.add_argument(
        "--images",
        type=int_at_least(2),
        default=1000,
        metavar="N",
        help="pictures of each kind to choose from [%(default)s]",
    )
    parser.add_argument("--captions", type=int_at_least(1), metavar="N", help="captions, drawn at random [all]")
    parser.add_argument(
        "--shortlist",
        type=int_at_least(2),
        default=SHORTLIST,
        metavar="N",
        help="candidates per caption: its own picture and the nearest ones to it [%(default)s]",
    )
    add_shortlists(parser)
    add_marginal(parser)
    parser.add_argument(
        "--samples", type=int_at_least(1), default=1, metavar="L", help="samples of the latents per bound [%(default)s]"
    )
    parser.set_defaults(run=_run_retrieval)

    parser = sets.add_parser(
        "similarity",
        help="similarity of drawings to the true pictures, and distance to the training pictures",
        description="Measures the structural similarity of drawings to the true pictures of their captions, and finds "
        "the training pictures nearest to them.",
    )
    _add_data(parser, "whose captions are drawn")
    add_sharpening(parser, "compare the drawings as sharpened by", bounds=False)
    parser.add_argument(
        "--captions", type=int_at_least(1), default=200, metavar="N", help="captions of each kind [%(default)s]"
    )
    parser.add_argument("-n", type=int_at_least(1), default=50, metavar="N", help="drawings per caption [%(default)s]")
    parser.add_argument(
        "--sheet",
        type=Path,
        metavar="FILE",
        help=f"also write a .png of {PREVIEW_COUNT} drawings, each with its {NEIGHBOURS} nearest training pictures",
    )
    parser.set_defaults(run=_run_similarity)


def _add_data(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="captioned images that `aligndraw data` wrote [scenes]"
    )
    add_evaluation(parser, what)


def _run_retrieval(arguments: argparse.Namespace) -> int:
    if arguments.json is not None:
        check_file(arguments.json)
    backends, evaluation = describe_backends(arguments.device), open_evaluation(arguments)
    model, sharpen, results, record = evaluation.pipeline.model, evaluation.pipeline.sharpen, {}, {}
    if not has_bound(model):
        raise Failure(f"model {evaluation.name} must have a bound to compare pictures by, got a LAPGAN")
    with (
        failing(ValueError, FileNotFoundError),
        tqdm(unit=" bounds", dynamic_ncols=True, disable=None, leave=False) as bar,
    ):
        parts = _parts(evaluation, arguments)
        listed = shortlist_function(arguments, arguments.shortlist)
        lists = {kind: listed(part.images) for kind, part in parts.items()}
        bar.set_description("mean caption")
        training = _training(evaluation, arguments.seed, TRAINING_COUNT)
        some = _training(evaluation, arguments.seed, arguments.marginal)
        captions = (
            mean_caption(model, evaluation.read(training)),
            encode_examples(model, evaluation.read(some)),
        )
        usual: list[Tensor | None] = [None, None]
        if isinstance(sharpen, CaptionedSharpener):
            usual = [sharpen.sentences(training.captions()).mean(0, keepdim=True), sharpen.sentences(some.captions())]
        references = [Reference(*each) for each in zip(captions, usual)]
        for kind, part in parts.items():
            _, words, lengths = evaluation.read(part.examples).batch(slice(0, len(part.examples)))
            order = np.random.default_rng(arguments.seed).permutation(len(words))
            rows = np.sort(order[: arguments.captions])
            wanted = part.image_index[rows]
            used = lists[kind][wanted]
            network = sentences = None
            if isinstance(sharpen, CaptionedSharpener):
                texts = part.examples.captions()
                network, sentences = sharpen.network, sharpen.sentences([texts[row] for row in rows])
            bar.set_description(f"retrieval, {COMBINATIONS.get(kind, kind)}")
            bar.reset(len(np.unique(used)) * (1 + len(some)) + used.size)
            likelihoods = Likelihoods(
                model, part.images, arguments.samples, arguments.seed,
                sharpen=network, epsilon=arguments.sharpen_epsilon, on_batch=bar.update,
            )  # fmt: skip
            results[kind] = retrieve(
                likelihoods, references, torch.from_numpy(words[rows]), torch.from_numpy(lengths[rows]),
                wanted, lists[kind], sentences,
            )  # fmt: skip
            record[kind] = dict(zip(("mean", "marginal"), (result.to_dict() for result in results[kind])))
    tell(*summary(arguments, evaluation.name, model, backends))
    space = "pixels" if arguments.features is None else f"the last fully connected layer of {arguments.features}"
    if arguments.shortlists is not None:
        space = f"as {arguments.shortlists} has them"
    near = f"nearest by {space}" if arguments.shortlists is None else space
    tell("", f"retrieval on {evaluation.title}, {arguments.split}, in per cent; candidates are {near}")
    if sharpen is not None:
        e = f"{arguments.sharpen_epsilon:g}"
        tell(f"  of sharpened pictures, the mean of a pixel clipped to [{e}, 1 - {e}]")
    for kind, (mean, marginal) in results.items():
        tell(f"  {COMBINATIONS.get(kind, kind)}, {counted(len(mean.ranks), 'caption')}")
        tell(f"    by log p(x | y) - log p(x | mean caption): {mean}")
        tell(f"    by log p(x | y) - log p(x), of {counted(len(some), 'caption')}: {marginal}")
    numbers = {"data": arguments.data, "space": space, "sharpen": arguments.sharpen, "retrieval": record}
    if sharpen is not None:
        numbers["epsilon"] = arguments.sharpen_epsilon
    write_numbers(arguments, evaluation.name, ("images", "marginal", "samples"), numbers)
    return 0


def _run_similarity(arguments: argparse.Namespace) -> int:
    check_files({"--json": arguments.json, "--sheet": arguments.sheet})
    backends, evaluation = describe_backends(arguments.device), open_evaluation(arguments)
    model, sharpen, n, blocks = evaluation.pipeline.model, evaluation.pipeline.sharpen, arguments.n, []
    lines: list[str] = []
    record: dict[str, Any] = {}
    with (
        failing(ValueError, FileNotFoundError),
        tqdm(unit=" images", dynamic_ncols=True, disable=None, leave=False) as bar,
    ):
        training = _training_images(evaluation)
        sets = _captions(evaluation, arguments)
        for kind, examples in sets.items():
            title, read = COMBINATIONS.get(kind, kind), evaluation.read(examples)
            bar.set_description(f"similarity, {title}")
            bar.reset(len(examples) * n)
            similarity = score_similarity(model, read, n, arguments.seed, sharpen=sharpen, on_batch=bar.update)
            first = slice(0, min(len(examples), QUERY_COUNT))
            true, words, lengths = read.batch(first)
            streams = [stream(arguments.seed, i) for i in range(len(true))]
            given = (torch.from_numpy(part).to(arguments.device) for part in (words, lengths))
            pictures = model.sample(*given, generator=streams).images
            if sharpen is not None:
                pictures = sharpen(examples.captions(first), pictures)
            images = pictures.float().cpu().numpy()
            drawn = np.rint(images * 255).astype(np.uint8)
            bar.set_description(f"nearest, {title}")
            bar.reset(2 * len(training))
            found, away = nearest_images(drawn, training, min(NEIGHBOURS, len(training)), on_chunk=bar.update)
            _, usual = nearest_images(true, training, on_chunk=bar.update)
            blocks += [
                Captioned(caption, np.concatenate([drawn[i : i + 1], training[found[i]]]) / 255)
                for i, caption in enumerate(examples.captions(slice(0, min(len(true), PREVIEW_COUNT // len(sets)))))
            ]
            distances = {"drawn": float(away[:, 0].mean()), "true": float(usual[:, 0].mean())}
            record[kind] = {"similarity": similarity.to_dict(), "nearest": {**distances, "pictures": len(true)}}
            lines.append(
                f"  {title}, {counted(len(examples), 'caption')}: SSI {similarity}; to the nearest training picture "
                f"{distances['drawn']:.2f}, from true ones {distances['true']:.2f}"
            )
    tell(*summary(arguments, evaluation.name, model, backends))
    tell(
        "",
        f"similarity on {evaluation.title}, {arguments.split}, {counted(n, 'picture')} of each caption, "
        "± over all pairs;",
        f"mean distances by pixels to the nearest of {counted(len(training), 'training picture')}, "
        f"up to {QUERY_COUNT} captions",
        *lines,
    )
    if arguments.sheet is not None:
        with failing(ValueError), writing(arguments.sheet):
            texts = {"Software": f"aligndraw {aligndraw.__version__}"}
            save_png(contact_sheet(blocks), arguments.sheet, texts)
        tell("", f"wrote {arguments.sheet}: drawn pictures, each before the nearest of training")
    numbers = {
        "data": arguments.data,
        "sharpen": arguments.sharpen,
        "training_pictures": len(training),
        "similarity": record,
    }
    write_numbers(arguments, evaluation.name, ("captions", "n"), numbers)
    return 0


def _parts(evaluation: Evaluation, arguments: argparse.Namespace) -> dict[str, Part]:
    """Returns the first pictures of the split, with all their captions."""
    if evaluation.split is None:
        scenes = evaluation_scenes(arguments.split, arguments.seed, arguments.images)
        return {kind: Part(part.pictures(slice(None)), part, np.arange(len(part))) for kind, part in scenes.items()}
    split = evaluation.split
    examples = split.select(np.flatnonzero(split.image_index < arguments.images))
    return {arguments.split: Part(np.asarray(split.images[: arguments.images]), examples, examples.image_index)}


def _captions(evaluation: Evaluation, arguments: argparse.Namespace) -> dict[str, Examples]:
    """Returns random captions of the split, with their pictures."""
    if evaluation.split is None:
        return dict(evaluation_scenes(arguments.split, arguments.seed, arguments.captions))
    size = min(arguments.captions, len(evaluation.split))
    return {arguments.split: evaluation.split.epoch(arguments.seed, size=size)}


def _training(evaluation: Evaluation, seed: int, size: int) -> Examples:
    """Returns `size` training captions, or all where there are fewer; without data, captions of scenes."""
    if evaluation.data is None:
        return Scenes().epoch(seed, size=size)
    split = evaluation.data.split("train")
    return split.epoch(seed, size=min(size, len(split)))


def _training_images(evaluation: Evaluation) -> NDArray[np.uint8]:
    """Returns training pictures; without data, pictures of scenes."""
    if evaluation.data is None:
        return Scenes().epoch(0, size=TRAINING_COUNT).pictures(slice(None))
    return evaluation.data.split("train").images
