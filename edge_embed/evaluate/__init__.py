"""Score any model, tier by tier: a checkpoint, a bundle, a folder of checkpoints, an encoder of sentence-transformers.

torch is imported only when a checkpoint or a foreign encoder is opened.
"""

from edge_embed.extras import require

require("evaluate", "scipy", "sklearn", "pytrec_eval")
