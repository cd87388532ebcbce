"""The engine of pycnn: arrays in, arrays out. Knows nothing of tensors, layers or models."""
