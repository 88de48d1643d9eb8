"""Pure maths on arrays: geometry, colour, masks, blending, smoothing, metrics."""
