"""Tables of scores that fit the terminal, and the picture of all models."""

import io
import os
import re
import subprocess
import sys
from itertools import combinations, pairwise

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from edge_embed.evaluate.classification import ClassificationScores
from edge_embed.evaluate.evaluation import Evaluation
from edge_embed.evaluate.retrieval import RetrievalScores
from edge_embed.evaluate.tables import ScoreTable, score_tables
from edge_embed.show.scores import draw_scores, print_scores
from edge_embed_runtimes.errors import DataError, OutputError

CUPS = ("demi", "short", "tall", "grande", "venti", "trenta")
MANY = tuple(f"l{layers}-d{32 * layers}" for layers in range(1, 13))
LONG = "runs/a-folder-with-a-long-name/[and]/another/checkpoint"


def model(name: str, tiers=CUPS, *, base: float = 0.5, sets=("stsb", "sick"), cross: bool = False) -> Evaluation:
    scores = {tier: base + place / 100 for place, tier in enumerate(tiers)}
    return Evaluation(
        model=name,
        tiers=tuple(tiers),
        sts=dict.fromkeys(sets, scores),
        retrieval={"a_rather_long_name_of_a_set": {tier: RetrievalScores(x, x, x) for tier, x in scores.items()}},
        classification={"trec": {tier: ClassificationScores(x, x, True) for tier, x in scores.items()}},
        sts_cross={"stsb": dict.fromkeys(tiers, scores)} if cross else {},
        retrieval_cross={},
    )


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def printed(monkeypatch):
    """What is printed on a terminal of 80 columns."""

    def call(tables: list[ScoreTable]) -> str:
        screen = Terminal()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", screen)
            patched.setenv("TERM", "xterm")
            patched.setenv("COLUMNS", "80")
            patched.delenv("NO_COLOR", raising=False)
            print_scores(tables)
        return screen.getvalue()

    return call


def plain(printed: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", printed).splitlines()


@pytest.mark.parametrize(
    "models",
    [
        [model("bundle", cross=True)],
        [model("bundle", MANY, cross=True)],
        [model("bundle"), model(LONG), model("minilm", ("full",))],
        [model(LONG, MANY, cross=True), model("wide", ("a_tier_with_a_name_of_32_letters",))],
    ],
    ids=["one", "one-of-many-tiers", "several", "several-of-many-tiers"],
)
def test_tables_fit_a_terminal_of_80_columns(printed, models):
    tables = score_tables(models)
    lines = plain(printed(tables))
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)  # nothing is cut off
    cells = [cell for line in lines for cell in line.split()]
    scores = [table.cell(row, column) for table in tables for row in range(len(table.rows))
              for column in range(len(table.columns))]  # fmt: skip
    assert sorted(cell for cell in cells if re.fullmatch(r"-?\d\.\d{4}", cell)) == sorted(filter(None, scores))
    for tier in tables[0].columns:
        assert tier in cells


def test_six_tiers_and_a_long_name_need_one_part(printed):
    lines = plain(printed(score_tables([model("a"), model(LONG), model("b", ("full",))])[:1]))
    (header,) = (line for line in lines if line.startswith("model"))
    assert header.split() == ["model", *CUPS, "full"]
    assert LONG in "".join(line[:24].strip() for line in lines)


def test_a_wide_table_is_printed_in_parts_with_all_names(printed):
    lines = plain(printed(score_tables([model("ours", MANY), model("theirs", MANY)])[:1]))
    headers = [line.split()[1:] for line in lines if line.startswith("model")]
    assert len(headers) == 2
    assert tuple(tier for header in headers for tier in header) == MANY
    assert [line.split()[0] for line in lines if line.startswith(("ours", "theirs"))] == ["ours", "theirs"] * 2
    assert [line.rstrip() for line in lines].count("stsb: Spearman") == 2


def test_the_best_is_bold(printed):
    text = printed(score_tables([model("a", ("demi",), base=0.25), model("b", ("demi",), base=0.75)])[:1])
    assert "\x1b[1m0.7500\x1b[0m" in text
    assert "0.2500" in text
    assert "\x1b[1m0.2500" not in text


def test_names_in_square_brackets_are_no_markup(capsys):
    print_scores(score_tables([model("[bold]a", ("demi",)), model("[1]", ("demi",), sets=("[red]s",))]))
    out = capsys.readouterr().out
    for name in ("[bold]a", "[1]", "[red]s: Spearman"):
        assert name in out


# The picture


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draw some models, and hand out the figure, laid out as it was saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure, place, **options):
        figures.append(figure)
        save(figure, place, **options)

    monkeypatch.setattr(Figure, "savefig", keep)

    def draw(*models: Evaluation) -> Figure:
        draw_scores(models, tmp_path / "deep" / "scores.png")
        assert (tmp_path / "deep" / "scores.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["scores.png"]
        return figures[-1]

    return draw


def test_a_panel_for_each_set_and_a_line_for_each_model(drawn):
    figure = drawn(model("ours", CUPS[:3]), model("theirs", CUPS[1:3], base=0.6), model("minilm", ("full",), base=0.7))
    panels = [axes for axes in figure.axes if axes.axison]
    assert [(axes.get_title(), axes.get_ylabel()) for axes in panels] == [
        ("stsb", "Spearman"),
        ("sick", "Spearman"),
        ("STS mean of 2", "Spearman"),
        ("a_rather_long_name_of_a_set", "nDCG@10"),
        ("trec", "accuracy"),
    ]
    for axes in panels:
        assert [label.get_text() for label in axes.get_xticklabels()] == list(CUPS[:3])
        ours, theirs, level = axes.lines
        assert list(ours.get_ydata()) == pytest.approx([0.5, 0.51, 0.52])
        assert list(theirs.get_xdata()) == [1, 2]
        assert list(level.get_ydata()) == pytest.approx([0.7, 0.7])
        assert level.get_linestyle() in ("--", "-.", ":")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ours", "theirs", "minilm"]


def test_models_without_a_ladder_alone_are_points(drawn):
    figure = drawn(model("a", ("full",)), model("b", ("full",)))
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["full"]
    assert [list(line.get_xdata()) for line in figure.axes[0].lines] == [[0], [0]]


@pytest.mark.parametrize(
    "models",
    [
        [model("a")],
        [model("a"), model(LONG), model("$\\frac$"), model("_b", ("full",)), model("y" * 300)],
        [model("a", MANY), model("b", tuple(f"a-{tier}" for tier in MANY))],
        [model(f"{LONG} {number}", base=number / 100) for number in range(25)],
        [model("a", sets=("the-name-of-a-set-" * 10, "b"))],
        [model("a", sets=())],
    ],
    ids=["one", "odd-names", "many-tiers", "many-models", "long-set", "few-sets"],
)
def test_labels_do_not_overlap(drawn, models):
    figure = drawn(*models)
    FigureCanvasAgg(figure).draw()
    width, height = figure.get_size_inches() * figure.dpi
    panels = [axes for axes in figure.axes if axes.axison]
    texts = [*figure.legends[0].get_texts(), *(text for axes in panels for text in (axes.title, axes.yaxis.label))]
    for axes in panels:
        low, high = axes.get_ylim()
        texts += [text for text in axes.get_yticklabels() if low <= text.get_position()[1] <= high]  # others are hidden
        texts += [text for text in axes.get_xticklabels() if text.get_rotation() == 0]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    for name, box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, name
    for (one, first), (other, second) in combinations(boxes, 2):
        assert not first.overlaps(second), (one, other)
    for axes in panels:
        assert axes.get_window_extent().height > 1.4 * figure.dpi
        places = [axes.transData.transform((tick, 0))[0] for tick in axes.get_xticks()]
        if axes.get_xticklabels()[0].get_rotation():  # at 45 degrees a line of text takes 1.4 times its height
            assert min(right - left for left, right in pairwise(places)) > 1.4 * figure.dpi * 9 / 72


def test_the_picture_needs_no_display(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom edge_embed.evaluate.evaluation import Evaluation\n"
        "from edge_embed.show.scores import draw_scores\n"
        "draw_scores([Evaluation('a', ('demi',), {'s': {'demi': 0.5}}, {}, {}, {}, {})], Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    hidden = {name: value for name, value in os.environ.items() if "DISPLAY" not in name and name != "MPLBACKEND"}
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "scores.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=hidden)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "scores.png").is_file()


def test_a_picture_that_cannot_be_drawn_or_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"scores\.png can't be written"):
        draw_scores([model("a")], tmp_path / "file" / "scores.png")
    with pytest.raises(DataError, match="a name of its own"):
        draw_scores([model("a"), model("a")], tmp_path / "scores.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
