"""From an encoder, texts and pairs to a bundle, in Python.

python samples/train_and_export.py all-MiniLM-L6-v2 my-bundle
"""

import sys
import tempfile
from pathlib import Path

from edge_embed import parse_ladder
from edge_embed.model.checkpoint import save_checkpoint
from edge_embed.train.finetune import fine_tune
from edge_embed.train.prepare import prepare
from edge_embed.train.recipe import Recipe
from edge_embed.train.recipe_file import sources
from edge_embed_export.build import export_bundle
from edge_embed_export.settings import ExportSettings

TEXTS = Path(__file__).parent / "texts"


def main(base: str, bundle: str, tiers: str = "1x32,2x64", epochs: str = "1") -> None:
    files = tuple(TEXTS / name for name in ("questions.txt", "scenes.txt"))
    recipe = Recipe(
        base=base,
        data=(*sources("texts", files), *sources("pairs", [TEXTS / "pairs" / "paraphrases.tsv"])),
        ladder=parse_ladder(tiers),
        epochs=float(epochs),
    )
    training = prepare(recipe)
    model = fine_tune(training)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch) / "checkpoint"
        save_checkpoint(model, checkpoint, training.origin)
        settings = ExportSettings(calibrate=files, engines=("onnx",), precisions=("int8",))
        manifest = export_bundle(checkpoint, Path(bundle), settings, replace=True)
    for grade in manifest.passport.grades:
        print(f"{grade.tier}: mean cosine to float {grade.cosine_mean:.5f}")


if __name__ == "__main__":
    main(*sys.argv[1:] or ["all-MiniLM-L6-v2", "my-bundle"])
