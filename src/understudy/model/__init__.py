"""Networks, augmentation and losses: tensors only."""
