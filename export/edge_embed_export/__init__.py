"""The compiler: from a checkpoint to a bundle of one graph per tier and engine."""
