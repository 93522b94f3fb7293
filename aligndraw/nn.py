"""The model's parts as modules for other recurrent-attention models.

`GlimpseRead` and `GlimpseWrite` look at and draw on an image through five numbers that they make themselves, so that a
model needs no window algebra; `WordAttention` attends to a caption; `LSTMCell` carries its learned first state;
`Posterior` and `Prior` make the distributions that `aligndraw.ops.latent` compares.
`docs/examples/draw_mnist.py` builds plain DRAW from them.
"""

from aligndraw.model.align import WordAttention
from aligndraw.model.glimpse import GlimpseRead, GlimpseWrite
from aligndraw.model.language import LanguageModel
from aligndraw.model.latent import Posterior, Prior
from aligndraw.model.recurrent import LSTMCell

__all__ = ["GlimpseRead", "GlimpseWrite", "LSTMCell", "LanguageModel", "Posterior", "Prior", "WordAttention"]
