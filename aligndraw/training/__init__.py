"""Training: trainers, optimizers, schedules, checkpoints and run folders."""

from aligndraw.training.optimizer import Muon, RMSprop, build_optimizer, clip_scales, learning_rate
from aligndraw.training.trainer import Trainer, Update, train

__all__ = [
    "Muon",
    "RMSprop",
    "Trainer",
    "Update",
    "build_optimizer",
    "clip_scales",
    "learning_rate",
    "train",
]
