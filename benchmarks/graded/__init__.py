"""The truth benchmark at graded distance: rendered morphs between two performers, and how a model does on each of them."""
