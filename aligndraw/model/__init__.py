"""The models: the paper's, whose modules are language, align, glimpse, latent and draw in its order.

And its baselines.
"""

from aligndraw.config import (
    AlignDRAWConfig,
    ConvolutionalVAEConfig,
    FullyConnectedVAEConfig,
    ModelConfig,
    RefinedConfig,
)
from aligndraw.model.baselines import ConvolutionalVAE, FullyConnectedVAE
from aligndraw.model.draw import AlignDRAW, State, Step
from aligndraw.model.interface import Bound, Caption, Inference, Model, PictureModel, has_bound
from aligndraw.model.refined import RefinedDRAW
from aligndraw.model.samples import Samples

__all__ = [
    "AlignDRAW",
    "Bound",
    "Caption",
    "ConvolutionalVAE",
    "Samples",
    "FullyConnectedVAE",
    "Inference",
    "Model",
    "PictureModel",
    "RefinedDRAW",
    "State",
    "Step",
    "build_model",
    "has_bound",
]


def build_model(config: ModelConfig) -> Model:
    """Returns the model of a configuration, with fresh parameters."""
    match config:
        case RefinedConfig():
            return RefinedDRAW(config)
        case AlignDRAWConfig():
            return AlignDRAW(config)
        case FullyConnectedVAEConfig():
            return FullyConnectedVAE(config)
        case ConvolutionalVAEConfig():
            return ConvolutionalVAE(config)
    raise TypeError(f"config must be of a model, got {type(config).__name__}")
