"""Pictures for people: contact sheets, figures and animations."""

from aligndraw.viz.animation import save_animation
from aligndraw.viz.attention import attention_figure, attention_panel
from aligndraw.viz.comparison import Trace, comparison_figure, comparison_panel, trace
from aligndraw.viz.rows import Group, Row, changed_words, rows_figure
from aligndraw.viz.sheet import Captioned, check_range, contact_sheet, save_png

__all__ = [
    "Captioned",
    "Group",
    "Row",
    "Trace",
    "attention_figure",
    "attention_panel",
    "changed_words",
    "check_range",
    "comparison_figure",
    "comparison_panel",
    "contact_sheet",
    "rows_figure",
    "save_animation",
    "save_png",
    "trace",
]
