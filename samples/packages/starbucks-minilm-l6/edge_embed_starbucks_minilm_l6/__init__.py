"""The default bundle of edge-embed, in the folder `bundle` beside this file; `Embedder.open()` finds it there."""
