"""The class an app uses: open a bundle, let it choose a tier, embed."""

import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.bundle import Bundle, Verify
from edge_embed_runtimes.device.opening import open_graph
from edge_embed_runtimes.device.probe import read_power, usable_threads
from edge_embed_runtimes.device.profile import DeviceProfile, Plan, profile_bundle
from edge_embed_runtimes.engines import Session
from edge_embed_runtimes.errors import BundleNotFound, EngineError
from edge_embed_runtimes.manifest import Engine, Precision
from edge_embed_runtimes.options import list_options, with_costs
from edge_embed_runtimes.policy import Budget, Choice, choose
from edge_embed_runtimes.tiers import Ladder
from edge_embed_runtimes.tokenizer import Tokenizer

log = logging.getLogger("edge_embed")


class Embedder:
    """Sentence vectors from one tier of a bundle. Make one with `Embedder.open`; use it from any thread.

    Attributes:
        choice: which tier runs, why, and why the others do not.
        space: id of the vector space; only vectors of one space can be compared.
    """

    def __init__(self, session: Session, tokenizer: Tokenizer, choice: Choice, *, ladder: Ladder, space: str) -> None:
        self.choice = choice
        self.space = space
        self._ladder = ladder
        self._session = session
        self._tokenizer = tokenizer
        self._closed = False
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls,
        bundle: Bundle | str | os.PathLike[str] | None = None,
        *,
        tier: str | None = None,
        engine: Engine | None = None,
        precision: Precision | None = None,
        device: str | None = None,
        budget: Budget | None = None,
        profile: DeviceProfile | str | os.PathLike[str] | None = None,
        threads: int | None = None,
        verify: Verify = "always",
    ) -> "Embedder":
        """Open a bundle. What is named here is kept; the rest is chosen.

        Args:
            bundle: folder that `edge-embed export` wrote, or an opened `Bundle`.
            tier: name of a tier, such as `"demi"` or `"l1-d32"`.
            engine: `"onnx"` or `"openvino"`.
            precision: `"int8"` or `"fp32"`.
            device: `"CPU"` (the default), or another device of OpenVINO.
            budget: what one text may cost; none means best quality.
            profile: what the tiers cost here, or the file of it. If the budget needs one and none is given, a quick
                one is made first, which takes seconds.
            threads: threads a call; None for all that this process may use.
            verify: `"always"` checks the hash of each file before its first use, `"never"` trusts the folder.

        Raises:
            BundleError: no usable bundle there, or none of the named engine and precision.
            LadderError: no tier of that name.
            EngineError: the engine is missing or can't load the graph.
            NoTierFits: no tier meets the budget.
        """
        if bundle is None:
            raise BundleNotFound("no bundle named, and no default bundle is installed: name a folder to open")
        opened = bundle if isinstance(bundle, Bundle) else Bundle(bundle, verify=verify)
        budget = budget or Budget()
        threads = usable_threads() if threads is None else threads
        device = device or "CPU"
        options = list_options(opened, tier=tier, engine=engine, precision=precision, device=device)
        if isinstance(profile, str | os.PathLike):
            profile = DeviceProfile.load(Path(profile))
        if profile is not None and (reason := profile.mismatch(opened, threads, device)):
            log.warning("the profile is ignored: %s", reason)
            profile = None
        if profile is None and budget.needs_profile:
            # of two precisions the preferred one is the cheaper one: the other would only make the start slower
            options = [option for option in options if option.precision == options[0].precision]
            log.warning("no profile of this device: measuring %d graphs first", len(options))
            plan = Plan(tokens=(budget.tokens,), batches=(1,), quick=True, isolate=budget.memory_mb is not None)
            graphs = [option.graph for option in options]
            profile = profile_bundle(opened, graphs, plan=plan, threads=threads, runs_on=device)
        choice = choose(with_costs(options, profile, budget.tokens), budget, read_power())
        tokenizer = Tokenizer.from_file(opened.tokenizer(), max_tokens=opened.manifest.max_tokens)
        session = open_graph(opened, choice.tier, choice.engine, choice.precision, device=device, threads=threads)
        return cls(session, tokenizer, choice, ladder=opened.manifest.ladder, space=opened.manifest.space)

    @property
    def tiers(self) -> Ladder:
        """Every tier of the bundle."""
        return self._ladder

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.choice.tier.dim

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of texts: (n, dim) float32, each of unit length, in the order of `texts`.

        The same text always gets the same vector, whatever stands beside it. An empty list gives shape (0, dim).
        White space alone is embedded as the empty text.

        Warns:
            TextCut: a text is longer than the encoder reads; the rest of it was left out.

        Raises:
            TextError: a bare string, or an item that is no valid string.
            EngineError: the embedder is closed.
        """
        if self._closed:
            raise EngineError("this embedder is closed: open the bundle again")
        batches = self._tokenizer.batches(texts)
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        for batch in batches:
            vectors[batch.rows] = self._session.run(batch.input_ids, batch.attention_mask)
        return vectors

    def close(self) -> None:
        """Give the memory back; a second call does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._session.close()

    def __enter__(self) -> "Embedder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
