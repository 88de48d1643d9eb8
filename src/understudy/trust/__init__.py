"""Consent, content gate, credentials, watermark and verification: what keeps swaps honest and recognisable."""
