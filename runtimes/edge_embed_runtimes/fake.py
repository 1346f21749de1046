"""An embedder without a bundle, an engine or a model, so that an app's own tests run anywhere in milliseconds."""

import numpy as np
import tokenizers

from edge_embed_runtimes.choose.governor import DWELL_S
from edge_embed_runtimes.choose.policy import Budget, Option
from edge_embed_runtimes.device.measure import Cost, Graph, Latency
from edge_embed_runtimes.device.probe import PowerState
from edge_embed_runtimes.embedder import Embedder
from edge_embed_runtimes.engines import Session
from edge_embed_runtimes.engines.fake import FakeSession
from edge_embed_runtimes.manifest import Manifest, Passport
from edge_embed_runtimes.run.pool import SessionPool
from edge_embed_runtimes.run.refining import Stepper
from edge_embed_runtimes.run.runner import OnChoice, Runner
from edge_embed_runtimes.run.setup import Setup
from edge_embed_runtimes.tiers import STARBUCKS, Ladder, Tier, parse_ladder
from edge_embed_runtimes.tokenizer import Tokenizer


def fake_embedder(
    ladder: Ladder | str = STARBUCKS,
    *,
    budget: Budget | None = None,
    adapt: bool = True,
    dwell_s: float = DWELL_S,
    on_choice: OnChoice | None = None,
) -> Embedder:
    """An embedder whose vectors mean nothing: the same text always gets the same one, other texts other ones.

    It chooses as a real one does, on mains until `reconsider` is told otherwise. A tier takes a millisecond, a
    millijoule and 10 MB for each of its layers; scores rise evenly from 0.7 to 0.9. A token is a byte.

    Args:
        ladder: its tiers, such as `"1x32,2x64"`.
        budget, adapt, dwell_s, on_choice: see `Embedder.open`.

    Raises:
        LadderError: `ladder` is no ladder.
        NoTierFits: no tier meets the budget.
    """
    tiers = parse_ladder(ladder) if isinstance(ladder, str) else ladder
    manifest = _manifest(tiers)
    options = [Option(t, "onnx", "int8", quality=manifest.passport.cross[t.name][t.name], cost=_cost(t)) for t in tiers]

    def session(graph: Graph) -> FakeSession:
        return FakeSession(tiers.find(graph[0]).dim)

    pool: SessionPool[Session] = SessionPool(session)
    power = PowerState("mains")
    runner = Runner(pool, budget or Budget(), adapt=adapt, dwell_s=dwell_s, on_choice=on_choice, power=lambda: power)
    stepper = Stepper(SessionPool(session), tiers, manifest.space)
    tokenizer = Tokenizer(_tokenizer().to_str(), max_tokens=manifest.max_tokens)
    return Embedder(Setup(options, None, pool, stepper), runner, tokenizer, manifest)


def _manifest(tiers: Ladder) -> Manifest:
    names = [tier.name for tier in tiers]
    scores = np.linspace(0.7, 0.9, len(tiers)).tolist()
    cross = {
        query: {documents: min(one, other) for documents, other in zip(names, scores, strict=True)}
        for query, one in zip(names, scores, strict=True)
    }
    return Manifest(
        name="fake",
        base_model="none",
        space="fake",
        head="project",
        pooling="mean",
        max_tokens=256,
        ladder=tiers,
        files=(),
        passport=Passport(cross=cross),
        ranges={tier.name: (1.0,) * tier.dim for tier in tiers},
        versions={},
    )


def _cost(tier: Tier) -> Cost:
    ms = float(tier.layers)
    return Cost(tier.name, "onnx", "int8", 32, 1, Latency(ms, ms, ms), 1000 / ms, ms, 1.0, 10 * ms)


def _tokenizer() -> tokenizers.Tokenizer:
    """One token a byte; nothing is unknown, so that different texts get different vectors."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE({byte: row for row, byte in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer
