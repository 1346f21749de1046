"""The part of edge-embed that runs on the device: numpy, tokenizers and one engine, nothing else."""
