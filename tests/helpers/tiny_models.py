"""A model that is small and draws nevertheless."""

from aligndraw import AlignDRAWConfig

TINY = AlignDRAWConfig(
    steps=3,
    encoder_units=6,
    decoder_units=5,
    latent_units=3,
    language_units=4,
    align_units=4,
    canvas_init=0.0,
)
