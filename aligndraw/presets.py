"""The presets of drawing models and VAEs: models with their recipes, by data set and name."""

from __future__ import annotations

from aligndraw.config import (
    AlignDRAWConfig,
    ConvolutionalVAEConfig,
    FullyConnectedVAEConfig,
    ModelConfig,
    TrainingConfig,
)


def _configs(network: str, recipe: str, vae: str | None = None) -> dict[str, tuple[ModelConfig, TrainingConfig]]:
    """Returns the model and the recipe of each --model; `vae` names the recipe of the VAEs, where there are any."""
    drawing, training = AlignDRAWConfig.preset(network), TrainingConfig.preset(recipe)
    sentence = drawing.replace(align=False, word_values="states", attention_scale=1.0, shape_units=0)
    configs: dict[str, tuple[ModelConfig, TrainingConfig]] = {
        "align": (drawing, training),
        "noalign": (sentence, training),
        "skipthought": (sentence, training.replace(word_dropout=0.0)),
    }
    if vae is not None:
        for kind in (FullyConnectedVAEConfig, ConvolutionalVAEConfig):
            configs[kind.KIND] = kind.preset(network), TrainingConfig.preset(vae)
    return configs


def model_kind(config: ModelConfig) -> str:
    """Returns the --model that trains a configuration; of another model its kind."""
    if type(config) is not AlignDRAWConfig:
        return config.KIND
    return "align" if config.align else "noalign" if config.sentences == "caption" else "skipthought"


# For each data set and preset, the models and their recipes; the first of each is the default.
PRESETS = {
    "mnist": {
        "quick": _configs("quick", "quick"),
        "best": _configs("best", "best"),
        "paper": _configs("paper", "paper"),
    },
    "scenes": {"scenes": _configs("scenes", "scenes", "vae")},
    "captioned": {
        "scenes": _configs("scenes", "scenes", "vae"),
        "photos": _configs("photos", "photos", "vae"),
        "coco": _configs("coco", "coco", "coco"),
    },
}
