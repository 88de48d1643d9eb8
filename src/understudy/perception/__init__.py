"""Pretrained networks as plain callables, and the survey of footage that is built on them."""
