"""What can be measured without training: each a function of settings, seed and workshop to rows and pictures."""
