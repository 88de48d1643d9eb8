"""The benchmark with a known right answer: trains a recipe on rendered performers, swaps, compares with the truth.

`python -m benchmarks.truth run --recipe quick --faces 20000` writes a scorecard; docs/benchmark.md is the guide.
"""
