"""Training: the loop, the update rule, the schedule."""

from aligndraw.training.loop import Update, to_tensors, train, updates
from aligndraw.training.optimizer import RMSprop, build_optimizer, clip_gradients, learning_rate

__all__ = [
    "RMSprop",
    "Update",
    "build_optimizer",
    "clip_gradients",
    "learning_rate",
    "to_tensors",
    "train",
    "updates",
]
