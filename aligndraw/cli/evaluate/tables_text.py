"""The Markdown of `aligndraw tables`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aligndraw.cli.evaluate.shared import COMBINATIONS
from aligndraw.evaluation.retrieval import RECALLS, Retrieval
from aligndraw.evaluation.tables import SPLITS, Protocol, TableData, TableRow
from aligndraw.printable import counted

NONE = "–"


def markdown(
    rows: Mapping[str, TableRow], data: TableData, protocol: Protocol, command: str, plan: Mapping[str, Any]
) -> str:
    """Returns both tables, that of attributes where there are any, and the command that repeats them."""
    versions = ", ".join(f"{name} {version}" for name, version in plan["versions"].items())
    parts = [
        f"# Tables: {data.title}",
        *_retrieval(rows, data, protocol, plan["shortlists"]),
        *_bounds(rows, data, protocol),
        *_attributes(rows, data, protocol),
        "## To repeat",
        f"```sh\n{command}\n```",
        f"{versions}; {plan['device']}, {plan['ops']}, {plan['threads']} thread(s) a process.",
    ]
    return "\n\n".join(parts) + "\n"


def _retrieval(rows: Mapping[str, TableRow], data: TableData, protocol: Protocol, space: str) -> list[str]:
    captions, candidates = len(data.splits["test"]), data.lists.shape[1]
    chance = [f"{100 * min(1, k / candidates):.1f}" for k in RECALLS]
    chance = ["*chance*", *chance, str((candidates - 1) // 2 + 1)]
    head = ["model", *(f"R@{k}, %" for k in RECALLS), "median rank"]
    paper = [
        [name, *_found(row.retrieval), str(row.similarity), f"{row.similarity_error:.4f}"] for name, row in rows.items()
    ]
    parts = [
        "## Table 1: retrieval and similarity",
        _table([*head, "SSI", "its error"], [*paper, [*chance, NONE, NONE]]),
        f"R@K: the share of {counted(captions, 'test caption')} whose image is among the first K of a shortlist of "
        f"{candidates} ({space}), ± standard error, by log p(x | y) − log p(x | ȳ), ȳ being the mean caption. "
        f"SSI: mean structural similarity of {counted(protocol.drawn, 'picture')} of each caption to its image, "
        f"± standard "
        f"deviation over the {captions * protocol.drawn:,} pairs; its error is the standard error of the mean.",
    ]
    marginal = [[name, *_found(row.retrieval_marginal)] for name, row in rows.items() if row.retrieval_marginal]
    if marginal:
        parts += [
            "The same by log p(x | y) − log p(x):",
            _table(head, [*marginal, chance]),
            f"p(x) is the mean of p(x | y) over {counted(len(data.marginal), 'caption')} y of training. Nothing "
            f"that models are "
            "trained on is like the mean caption, and what they make of that is arbitrary.",
        ]
    return parts


def _found(retrieval: Retrieval | None) -> list[str]:
    if retrieval is None:
        return [NONE] * (len(RECALLS) + 1)
    return [*(str(retrieval.recall(k)) for k in RECALLS), str(retrieval.median_rank)]


def _bounds(rows: Mapping[str, TableRow], data: TableData, protocol: Protocol) -> list[str]:
    sharpened = any(row.sharpened for row in rows.values())
    body = []
    for name, row in rows.items():
        if row.bounds:
            cells = [str(row.bounds[split]) for split in SPLITS]
            title = name if row.constant is None else f"{name}\\*"
            body.append([title, *cells, *[str(row.sharpened or NONE)] * sharpened])
    if not body:
        return []
    sizes = {split: len(examples) for split, examples in data.splits.items()}
    counts = ", ".join(f"{count:,} of {split}" for split, count in sizes.items())
    clipped = f" After sharpening, means of pixels are clipped to [{protocol.epsilon:g}, 1 − {protocol.epsilon:g}]."
    text = (
        f"Lower bounds of log p(x | y) in nats an image, ± standard error; more is better. {counts}; "
        f"{protocol.samples} sample(s) of the latents of each.{clipped * sharpened}"
    )
    constants = [f"{row.constant:.2f} of {name}" for name, row in rows.items() if row.constant is not None]
    if constants:
        text += (
            " \\* Pixels are Gaussian: densities, not to be compared with the others. Constant are "
            f"{', '.join(constants)}."
        )
    return [
        "## Table 3: the bound",
        _table(["model", *SPLITS, *["test, sharpened"] * sharpened], body),
        text,
    ]


def _attributes(rows: Mapping[str, TableRow], data: TableData, protocol: Protocol) -> list[str]:
    if not data.scenes:
        return []
    body = [[name, *(str(row.attributes[kind].shares["right"]) for kind in data.scenes)] for name, row in rows.items()]
    first = next(iter(rows.values())).attributes
    body.append(["*real pictures*", *(str(first[kind].accuracy.get("right", NONE)) for kind in data.scenes)])
    scenes = protocol.images
    return [
        "## Attributes",
        _table(["model", *(f"{COMBINATIONS[kind]}, %" for kind in data.scenes)], body),
        f"The share of pictures whose object, colour and place are those of their caption, as the scene reader sees "
        f"them, ± standard error; {protocol.pictures} of each of {counted(scenes, 'caption')} of a kind.",
    ]


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
