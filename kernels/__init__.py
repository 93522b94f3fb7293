"""The ops in Triton, which only the modules in here import: the package works without it."""
