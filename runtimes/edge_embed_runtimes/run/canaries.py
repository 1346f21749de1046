"""Known texts with their known vectors: whether a device computes the right thing."""

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.device.measure import Graph
from edge_embed_runtimes.engines import Session
from edge_embed_runtimes.errors import BundleDamaged, EngineError
from edge_embed_runtimes.manifest import Passport
from edge_embed_runtimes.tokenizer import Batch, Tokenizer, cutting_quietly

_SLACK = 0.01
"""How much lower than any text at the export a canary may lie; a device that computes wrongly is far below."""


@dataclass(frozen=True, slots=True)
class Canaries:
    """The canaries of a bundle.

    Attributes:
        batches: their tokens.
        vectors: tier name to (texts, dim) float32, of the torch encoder in float.
        passport: says what each graph must reach.
    """

    batches: tuple[Batch, ...]
    vectors: dict[str, NDArray[np.float32]]
    passport: Passport

    def __len__(self) -> int:
        return sum(len(batch.rows) for batch in self.batches)

    def run(self, session: Session) -> NDArray[np.float32]:
        """(texts, dim) float32 by a session.

        Raises:
            EngineError: it can't run.
        """
        found = np.concatenate([session.run(batch.input_ids, batch.attention_mask) for batch in self.batches])
        return found[np.argsort(np.concatenate([batch.rows for batch in self.batches]))]

    def lowest_cosine(self, found: NDArray[np.float32], graph: Graph) -> float:
        """The least cosine between what a graph gives and what is right."""
        return float((found * self.vectors[graph[0]]).sum(1).min())

    def least_cosine(self, graph: Graph) -> float:
        """What it must reach: the graph's gate, or what the export measured where that is less."""
        grade = self.passport.grade(*graph)
        gate = self.passport.gates.cosine_min
        return min(gate, gate if grade is None else grade.cosine_min) - _SLACK

    def check(self, found: NDArray[np.float32], graph: Graph) -> None:
        """Raise an EngineError where a graph gives known texts wrong vectors."""
        lowest, least = self.lowest_cosine(found, graph), self.least_cosine(graph)
        if not lowest >= least:  # said so that NaN fails, too
            raise EngineError(
                f"it gives wrong vectors on this device: cosine {lowest:.4f} of a known text, at least {least:g}"
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
        return Canaries(tuple(tokenizer.batches(texts)), vectors, bundle.manifest.passport)
