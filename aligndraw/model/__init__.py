"""The model, in the paper's order: language, align, glimpse, latent, draw."""

from aligndraw.model.draw import AlignDRAW, Bound, Drawing

__all__ = ["AlignDRAW", "Bound", "Drawing"]
