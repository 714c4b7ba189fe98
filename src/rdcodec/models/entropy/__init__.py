"""Entropy models: the rate in training, symbols and table indexes in the codec."""
