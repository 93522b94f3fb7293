"""Pictures for people to look at."""

from aligndraw.viz.sheet import Captioned, contact_sheet, save_png

__all__ = ["Captioned", "contact_sheet", "save_png"]
