"""Train the ladder: data, least-squares heads, losses, loop."""

from edge_embed.extras import require

require("train", "torch", "transformers", "accelerate", "safetensors", "scipy")
