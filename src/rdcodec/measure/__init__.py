"""The laboratory: quality, rate, computation, anchors and BD-rate, each measured one way."""
