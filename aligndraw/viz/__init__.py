"""Pictures for people to look at."""

from aligndraw.viz.animation import save_animation
from aligndraw.viz.attention import attention_figure
from aligndraw.viz.sheet import Captioned, contact_sheet, save_png

__all__ = ["Captioned", "attention_figure", "contact_sheet", "save_animation", "save_png"]
