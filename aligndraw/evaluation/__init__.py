"""Scores: the variational bound, and the fidelity of pictures to their captions."""
