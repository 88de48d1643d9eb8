"""The stages: typed inputs on disk to typed outputs on disk; they never import each other."""
