"""The model's parts as modules for other recurrent-attention models.

`GlimpseRead` and `GlimpseWrite` compute their windows from a state by a `WindowHead`, so a model needs no window
algebra. `WordAttention` attends to a caption. `LSTMCell` has a learned first state. `Posterior` and `Prior` make the
distributions that `aligndraw.ops.latent` compares. `docs/examples/draw_mnist.py` builds plain DRAW from them.
"""

from aligndraw.model.align import WordAttention
from aligndraw.model.glimpse import GlimpseRead, GlimpseWrite, WindowHead
from aligndraw.model.language import LanguageModel
from aligndraw.model.latent import Posterior, Prior
from aligndraw.model.recurrent import LSTMCell

__all__ = [
    "GlimpseRead",
    "GlimpseWrite",
    "LSTMCell",
    "LanguageModel",
    "Posterior",
    "Prior",
    "WindowHead",
    "WordAttention",
]
