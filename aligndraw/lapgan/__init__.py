"""Sharp images from blurry ones by a Laplacian pyramid of adversarial networks (LAPGAN; Denton et al., 2015)."""
