"""Videos in: clips, decoding, transforms, data sets."""
