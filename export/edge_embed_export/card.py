"""The model card of a bundle."""

from pathlib import Path

from edge_embed.model.checkpoint import Origin
from edge_embed_runtimes.manifest import Manifest

_CARD = """# {name}

Sentence vectors from `{base}`, in {count} tiers of one vector space (`{space}`). Made by edge-embed.

```python
from edge_embed import Budget, Embedder

with Embedder.open("path/to/this/folder", budget=Budget(latency_ms=5)) as embedder:
    vectors = embedder.encode(["A bicycle leans on the wall."])
```

Pooling: {pooling}. Heads: {head}. A text longer than {max_tokens} tokens is cut there, with a warning.

## Grades

Cosine to the float vectors of the torch encoder over {texts} texts; invariance is the largest difference of a value
between a text alone and in a batch.{scored}

| tier | size | engine | precision | mean cosine | min cosine | invariance | score |
|---|---|---|---|---|---|---|---|
{grades}
{cross}
## Trained on

Encoder: `{base}`. Files: {data}.

## Limits

The vectors are as good, and as biased, as the encoder and the texts they come from. Scores are those of the named
pairs alone: measure on your own texts before you rely on a tier. The licence of the base encoder and of the training
texts holds for this bundle, too.
"""


def write_card(path: Path, manifest: Manifest, origin: Origin) -> None:
    """Write the card of a bundle from its manifest."""
    passport = manifest.passport
    rows = [
        f"| {grade.tier} | {tier.layers}x{tier.dim} | {grade.engine} | {grade.precision} | {grade.cosine_mean:.5f} "
        f"| {grade.cosine_min:.5f} | {grade.invariance:.1e} | {'' if grade.score is None else f'{grade.score:.4f}'} |"
        for grade in passport.grades
        for tier in [manifest.ladder.find(grade.tier)]
    ]
    text = _CARD.format(
        name=manifest.name,
        base=manifest.base_model,
        count=len(manifest.ladder),
        space=manifest.space,
        pooling=manifest.pooling,
        head=manifest.head,
        max_tokens=manifest.max_tokens,
        texts=passport.grades[0].texts,
        scored=f" Score: Spearman correlation on `{passport.scored_on}`." if passport.scored_on else "",
        grades="\n".join(rows),
        cross=_cross_table(passport.cross),
        data=", ".join(f"`{name}`" for name in origin.data) or "none",
    )
    path.write_text(text, encoding="utf-8")


def _cross_table(cross: dict[str, dict[str, float]]) -> str:
    """Query tiers down, document tiers across."""
    if not cross:
        return ""
    names = list(cross)
    lines = [
        "\n## Across tiers\n",
        "Score of queries of one tier (rows) against documents of another (columns).\n",
        f"| | {' | '.join(names)} |",
        f"|{'---|' * (len(names) + 1)}",
        *(f"| {query} | {' | '.join(f'{cross[query][document]:.4f}' for document in names)} |" for query in names),
    ]
    return "\n".join(lines) + "\n"
