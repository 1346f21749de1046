"""Classification by a logistic probe: how much of the labels a straight line through the vectors tells."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_embed.data.lines import is_unicode
from edge_embed.data.records import read_records
from edge_embed.evaluate.models import TieredModel, encode_once
from edge_embed_runtimes.errors import DataError
from edge_embed_runtimes.progress import Progress, silent

_ENDINGS = (".tsv", ".csv", ".jsonl", ".parquet")
_COLUMNS = ("text", "label")
_MOST_STEPS = 1000  # it took about 60 on 5452 questions of 6 classes, in 384 values


class ProbeUnfinished(UserWarning):
    """A probe stopped before it converged."""


@dataclass(frozen=True, slots=True)
class LabelledTexts:
    """Texts, each with the name of its class.

    Raises:
        DataError: not as many labels as texts, or no text.
    """

    name: str
    texts: tuple[str, ...]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.texts or len(self.texts) != len(self.labels):
            raise DataError(
                f"{self.name} has {len(self.texts)} texts and {len(self.labels)} labels: expected as many of each, "
                f"at least one"
            )


@dataclass(frozen=True, slots=True)
class ClassificationSet:
    """What a probe is trained on, and what it is scored on.

    Raises:
        DataError: fewer than two classes to learn, or one in the test texts that the training texts lack.
    """

    name: str
    train: LabelledTexts
    test: LabelledTexts

    def __post_init__(self) -> None:
        known = set(self.train.labels)
        if len(known) < 2:
            raise DataError(
                f"{self.train.name}: every label is {self.train.labels[0]!r:.60}, expected at least two different ones"
            )
        unknown = sorted(set(self.test.labels) - known)
        if unknown:
            raise DataError(
                f"{self.test.name} has the label {unknown[0]!r:.60} ({len(unknown)} such in all), which no text of "
                f"{self.train.name} has: expected labels that can be learnt, spelt alike in both files"
            )


@dataclass(frozen=True, slots=True)
class ClassificationScores:
    """How well a probe tells the test texts' classes, each score from 0 to 1.

    Attributes:
        accuracy: share of the texts whose class it tells.
        macro_f1: F1 of each class, their mean.
        converged: whether the probe's training came to its end; if not, a better probe may score higher.
    """

    accuracy: float
    macro_f1: float
    converged: bool


def read_classification(folder: Path) -> ClassificationSet:
    """Read a folder of a `train` and a `test` file: `.tsv`, `.csv`, `.jsonl` or `.parquet`, each plain or `.gz`.

    Both have the columns text and label, others are ignored. A label is any word or number: `5`, `5.0` and `"5"` are
    the same, `Yes` and `yes` are not.

    Raises:
        DataError: a file that is missing, there twice or empty, a wrong row, or labels that don't fit together.
        ExtraMissing: a `.parquet` file, and pyarrow isn't installed.
    """
    return ClassificationSet(folder.resolve().name, _read(_find(folder, "train")), _read(_find(folder, "test")))


def score_classification(
    model: TieredModel, data: ClassificationSet, progress: Progress = silent
) -> dict[str, ClassificationScores]:
    """The scores of a probe on each tier's vectors, by tier name, smallest first; one pass encodes all texts.

    Raises:
        DataError: a vector holds a value that is no finite number.
    """
    vectors = encode_once(model, (*data.train.texts, *data.test.texts), progress)
    count = len(data.train.texts)
    scores = {}
    for number, (tier, rows) in enumerate(vectors.items(), start=1):
        scores[tier] = probe(rows[:count], data.train.labels, rows[count:], data.test.labels)
        progress("probe", number, len(vectors))
    return scores


def probe(
    train: NDArray[np.float32], train_labels: Sequence[str], test: NDArray[np.float32], test_labels: Sequence[str]
) -> ClassificationScores:
    """Train a logistic regression on some vectors and score it on others; the same vectors give the same scores.

    As in the classification tasks of MTEB (arXiv 2210.07316): scikit-learn's own settings (multinomial, L2 with C = 1,
    lbfgs, with an intercept), on vectors of unit length as they are, but on all training texts and up to 1000 steps.
    In float64: in float32 lbfgs stops earlier (42 steps instead of 59 on TREC), at other scores.

    Args:
        train, test: (texts, dim) rows of unit length.
        train_labels: of at least two classes.

    Raises:
        DataError: a vector holds a value that is no finite number.

    Warns:
        ProbeUnfinished: the training did not converge.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, f1_score

    if not np.isfinite(train).all() or not np.isfinite(test).all():
        raise DataError("a vector holds a value that is no finite number: only finite vectors can be classified")
    regression = LogisticRegression(max_iter=_MOST_STEPS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        regression.fit(train.astype(np.float64), train_labels)
    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    if not converged:
        warnings.warn(
            f"the probe did not converge in {_MOST_STEPS} steps on {train.shape[1]} values: its scores may be too low",
            ProbeUnfinished,
            stacklevel=2,
        )
    told = regression.predict(test.astype(np.float64))
    return ClassificationScores(
        accuracy=float(accuracy_score(test_labels, told)),
        macro_f1=float(f1_score(test_labels, told, average="macro")),
        converged=converged,
    )


def _find(folder: Path, split: Literal["train", "test"]) -> Path:
    names = [f"{split}{ending}{packed}" for ending in _ENDINGS for packed in ("", ".gz")]
    found = [folder / name for name in names if (folder / name).is_file()]
    if len(found) != 1:
        there = f"holds {' and '.join(path.name for path in found)}" if found else f"holds no {split} file"
        raise DataError(f"{folder} {there}: expected one of {', '.join(names)}")
    return found[0]


def _read(path: Path) -> LabelledTexts:
    texts, labels = [], []
    for record in read_records(str(path), columns=_COLUMNS):
        text, label = (record.cells.get(column) for column in _COLUMNS)
        where = f"{path}, line {record.line}"
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{where}: column 'text' is {text!r:.60}, expected a text")
        if not is_unicode(text):
            raise DataError(f"{where}: the text has a lone surrogate, expected valid Unicode: write the file anew")
        if not _spell(label):
            raise DataError(f"{where}: column 'label' is {label!r:.60}, expected a word or a number")
        texts.append(text.strip())
        labels.append(_spell(label))
    if not texts:
        raise DataError(f"{path} holds no row: expected at least one with {' and '.join(_COLUMNS)}")
    return LabelledTexts(str(path), tuple(texts), tuple(labels))


def _spell(label: object) -> str:
    """A label as text; nothing for what can't be one."""
    match label:
        case str():
            return label.strip()
        case float() if not math.isfinite(label):  # a gap
            return ""
        case float() if label.is_integer():  # whole numbers come as floats out of tables with gaps
            return str(int(label))
        case bool() | int() | float():
            return str(label)
        case _:
            return ""
