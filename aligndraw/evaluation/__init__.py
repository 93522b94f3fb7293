"""Evaluation: the variational bound, fidelity of pictures to captions, retrieval, similarity and sharpness."""
