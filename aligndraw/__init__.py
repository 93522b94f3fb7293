"""alignDRAW, generating images from captions with attention (Mansimov et al., ICLR 2016), on custom kernels."""

from aligndraw.backends import use_backend
from aligndraw.config import AlignDRAWConfig, TrainingConfig
from aligndraw.model import AlignDRAW

__version__ = "0.1.0"
__all__ = ["AlignDRAW", "AlignDRAWConfig", "TrainingConfig", "use_backend"]
