"""The torch side of a tiered encoder: load, run, save."""

from edge_embed.extras import require

require("train", "torch", "transformers", "safetensors")
