"""Sharpening of blurry images by a Laplacian pyramid of adversarial networks (LAPGAN; Denton et al., 2015)."""
