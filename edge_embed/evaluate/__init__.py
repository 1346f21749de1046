"""Score any model, tier by tier: a checkpoint, a bundle, or an encoder of sentence-transformers.

Scoring itself needs scipy alone; torch is imported only when a checkpoint or a foreign encoder is opened.
"""

from edge_embed.extras import require

require("train", "scipy")
