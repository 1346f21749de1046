"""The model card of a bundle."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

from edge_embed.model.checkpoint import Origin
from edge_embed_runtimes.manifest import Grade, Manifest, OutputGrade

_CARD = """# {name}

Sentence vectors from `{base}`, in {count} tiers of one vector space (`{space}`). Made by edge-embed.

```python
from edge_embed import Budget, Embedder

with Embedder.open("path/to/this/folder", budget=Budget(latency_ms=5)) as embedder:
    vectors = embedder.encode(["A bicycle leans on the wall."])
```

Pooling: {pooling}. Heads: {head}. A text longer than {max_tokens} tokens is cut there, with a warning.
{notes}
## Tiers

| tier | layers x dimensions | operations, 32 tokens | |
|---|---|---|---|
{tiers}

## Grades

Cosine to the float vectors of the torch encoder over {texts} texts; invariance is the largest difference of a value
between a text alone, in batches, and on another number of threads. Int8 was calibrated on {calibration}.{scored}

| tier | engine | precision | MB alone | mean cosine | 1st percentile | min cosine | invariance | score | in float |
|---|---|---|---|---|---|---|---|---|---|
{grades}
{missed}{cross}
## Smaller vectors

What the float encoder's vectors keep when they are stored in a smaller type: mean cosine to themselves{outputs_scored}.

| tier | {dtypes} |
|---|{dashes}
{outputs}

## Trained on

Encoder: `{base}`. Teachers: {teachers}. Files: {data}.

## Limits

The vectors are as good, and as biased, as the encoder and the texts they come from. Scores are those of the named
pairs alone: measure on your own texts before you rely on a tier. The licence of the base encoder and of the training
texts holds for this bundle, too.
"""


def write_card(path: Path, manifest: Manifest, origin: Origin, *, notes: str = "") -> None:
    """Write the card of a bundle from its manifest.

    Args:
        notes: Markdown that is put into it.
    """
    passport = manifest.passport
    text = _CARD.format(
        name=manifest.name,
        base=manifest.base_model,
        count=len(manifest.ladder),
        space=manifest.space,
        pooling=manifest.pooling,
        head=manifest.head,
        max_tokens=manifest.max_tokens,
        notes=f"\n{notes.strip()}\n" if notes.strip() else "",
        tiers="\n".join(
            f"| {tier.name} | {tier.layers}x{tier.dim} | {passport.operations[tier.name] / 1e6:.0f} million "
            f"| {'untrained' if tier.name in passport.untrained else ''} |"
            for tier in manifest.ladder
        ),
        texts=passport.grades[0].texts,
        calibration=passport.calibration,
        scored=f" Score: mean over {', '.join(passport.scored_on)}." if passport.scored_on else "",
        grades="\n".join(_grade_row(manifest, grade) for grade in passport.grades),
        missed=_missed(passport.missed),
        cross=_cross_table(passport.cross),
        outputs_scored=" and score" if passport.scored_on else "",
        dtypes=" | ".join(dict.fromkeys(grade.dtype for grade in passport.outputs)),
        dashes="---|" * len({grade.dtype for grade in passport.outputs}),
        outputs="\n".join(_output_row(tier.name, passport.outputs) for tier in manifest.ladder),
        teachers=_listed(_teachers(origin)),
        data=_listed(origin.data),
    )
    path.write_text(text, encoding="utf-8")


def _teachers(origin: Origin) -> list[str]:
    found = origin.recipe.get("teacher")
    return [str(name) for name in found] if isinstance(found, list) else []


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def _grade_row(manifest: Manifest, grade: Grade) -> str:
    graph = manifest.graph(manifest.ladder.find(grade.tier), grade.engine, grade.precision)
    alone = graph.size_bytes + graph.reads_bytes if graph else 0
    floats = [scores[grade.tier] for scores in manifest.passport.reference.values()]
    return (
        f"| {grade.tier} | {grade.engine} | {grade.precision} | {alone / 1e6:.2f} | {grade.cosine_mean:.5f} "
        f"| {grade.cosine_p1:.5f} | {grade.cosine_min:.5f} | {grade.invariance:.1e} "
        f"| {'' if grade.score is None else f'{grade.score:.4f}'} | {f'{fmean(floats):.4f}' if floats else ''} |"
    )


def _output_row(tier: str, grades: Sequence[OutputGrade]) -> str:
    own = [grade for grade in grades if grade.tier == tier]
    scores = ["" if grade.score is None else f", {grade.score:.4f}" for grade in own]
    return f"| {tier} | {' | '.join(f'{g.cosine_mean:.5f}{score}' for g, score in zip(own, scores, strict=True))} |"


def _missed(missed: Sequence[str]) -> str:
    if not missed:
        return ""
    return "\n".join(["\n## Below the gates\n", *(f"- {line}" for line in missed)]) + "\n"


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
