"""Known texts with their known vectors: whether a device computes the right thing."""

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.engines import Session
from edge_embed_runtimes.errors import BundleDamaged
from edge_embed_runtimes.manifest import Engine, Precision
from edge_embed_runtimes.tiers import Tier
from edge_embed_runtimes.tokenizer import Batch, Tokenizer, cutting_quietly

_SLACK = 0.01
"""How much lower than any text at the export a canary may lie; a device that computes wrongly is far below."""


@dataclass(frozen=True, slots=True)
class Canaries:
    """The canaries of a bundle.

    Attributes:
        batches: their tokens.
        vectors: tier name to (texts, dim) float32, of the torch encoder in float.
    """

    batches: tuple[Batch, ...]
    vectors: dict[str, NDArray[np.float32]]

    def lowest_cosine(self, session: Session, tier: Tier) -> float:
        """The least cosine between what a session gives and what is right.

        Raises:
            EngineError: it can't run.
        """
        expected = self.vectors[tier.name]
        return min(
            float((session.run(batch.input_ids, batch.attention_mask) * expected[batch.rows]).sum(1).min())
            for batch in self.batches
        )


def read_canaries(bundle: Bundle, tokenizer: Tokenizer) -> Canaries:
    """Read the canaries of a bundle.

    Raises:
        BundleDamaged: they are not as they should be.
    """
    try:
        content = json.loads(bundle.only("canaries").read_text(encoding="utf-8"))
        texts = [str(text) for text in content["texts"]]
        vectors = {
            tier.name: np.asarray(content["vectors"][tier.name], dtype=np.float32).reshape(len(texts), tier.dim)
            for tier in bundle.manifest.ladder
        }
        if not texts:
            raise ValueError("no texts")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleDamaged(f"{bundle.path} has no readable canaries ({error}): export it again") from error
    with cutting_quietly():
        return Canaries(tuple(tokenizer.batches(texts)), vectors)


def least_cosine(bundle: Bundle, tier: Tier, engine: Engine, precision: Precision) -> float:
    """What a canary must reach on a graph: its gate, or what the export measured where that is less."""
    passport = bundle.manifest.passport
    grade = passport.grade(tier.name, engine, precision)
    measured = passport.gates.cosine_min if grade is None else grade.cosine_min
    return min(passport.gates.cosine_min, measured) - _SLACK
