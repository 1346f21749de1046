"""Tables, words, bars and the picture of a ladder."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge_embed.show import table
from edge_embed.show.bars import bars
from edge_embed.show.device import print_device
from edge_embed.show.holdings import print_grades, print_manifest
from edge_embed.show.ladder import Rung, describe_choice, draw_ladder, print_ladder, rungs
from edge_embed.show.table import print_table
from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.choose.policy import Choice
from edge_embed_runtimes.device.energy import Finding
from edge_embed_runtimes.device.measure import Cost, Latency
from edge_embed_runtimes.device.probe import Device, PowerState
from edge_embed_runtimes.device.profile import DeviceProfile
from edge_embed_runtimes.engines import EngineDevice, EngineFacts
from edge_embed_runtimes.errors import OutputError
from edge_embed_runtimes.tiers import Tier

DEMI, TALL = Tier("demi", 1, 8), Tier("tall", 3, 32)
DEVICE = Device("Some CPU", ("avx2",), 8, 4, 16384, "Linux x86_64")
LADDER = (
    Rung(DEMI, "onnx", "int8", 1_250_000, 0.5, 1999.6, 0.71234, 0.998761),
    Rung(TALL, "onnx", "int8", 22_000_000, 3.14159, 300.0, 0.8, 0.999),
    Rung(DEMI, "openvino", "fp32", 5_000_000, 0.25, 4000.0, 0.713, 1.0),
    Rung(TALL, "openvino", "fp32", 88_000_000, 1.5, 700.0, None, None),
)


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


# Tables


class FakeReader:
    name = "battery"
    renews_s = 5.0

    def read_mj(self):
        return 0.0

    def close(self):
        pass


def test_a_table_has_numbers_at_the_right_and_words_at_the_left(capsys):
    print_table("the title", ["name", "size"], [["a", "1.5"], ["longer", "22.25"]])
    captured = capsys.readouterr()
    assert captured.err == ""
    rows = captured.out.splitlines()
    assert rows[0].strip() == "the title"
    first, second = (next(row.rstrip() for row in rows if name in row.split()) for name in ("a", "longer"))
    assert len(first) == len(second)
    assert first.index("a") == second.index("longer")
    assert (first[-3:], second[-5:]) == ("1.5", "22.25")


def test_a_table_without_column_names_has_no_header(capsys):
    print_table("facts", ["", ""], [["name", "x"]])
    assert lines(capsys.readouterr().out) == [["facts"], ["name", "x"]]


def test_square_brackets_in_cells_are_no_markup(capsys):
    print_table("texts", ["what"], [["[bold]x[/bold] [1, 2]"], ["/path/[a]"]])
    out = capsys.readouterr().out
    assert "[bold]x[/bold] [1, 2]" in out
    assert "/path/[a]" in out


def test_the_table_of_a_ladder(capsys):
    print_ladder("32 tokens", LADDER)
    out = capsys.readouterr().out
    for word in ("32 tokens", "tier", "graph", "texts/s", "score"):
        assert word in out
    rows = [row for row in lines(out) if row[0] in ("demi", "tall")]
    assert [" ".join(row) for row in rows] == [
        "demi 1 x 8 onnx int8 1.2 0.50 2000 0.7123 0.99876",
        "tall 3 x 32 onnx int8 22.0 3.14 300 0.8000 0.99900",
        "demi 1 x 8 openvino fp32 5.0 0.25 4000 0.7130 1.00000",
        "tall 3 x 32 openvino fp32 88.0 1.50 700",
    ]


def test_a_bundles_ladder_from_its_profile(tiny_bundle):
    bundle = Bundle(tiny_bundle)
    costs = tuple(
        Cost(tier, engine, "int8", tokens, batch, Latency(ms, 2 * ms, 3 * ms), 1000 * batch / ms, None, 1.0, None)
        for tokens in (16, 32)
        for batch in (1, 8)
        for tier, engine, ms in (("demi", "onnx", 1.0 * batch + tokens), ("tall", "openvino", 2.0 * batch + tokens))
    )
    profile = DeviceProfile("id", DEVICE, {}, "CPU", "mains", None, 0.0, costs)
    first, second = sorted(rungs(bundle, profile, tokens=32), key=lambda rung: rung.tier.layers)
    manifest = bundle.manifest
    grade = manifest.passport.grade("demi", "onnx", "int8")
    assert first == Rung(
        tier=DEMI,
        engine="onnx",
        precision="int8",
        size_bytes=bundle.alone_bytes(DEMI, "onnx", "int8"),
        p50_ms=33.0,
        texts_per_s=8000 / 40,
        score=grade.score,
        cosine=grade.cosine_mean,
    )
    entry, weights = manifest.graph(TALL, "openvino", "int8"), tiny_bundle / "openvino-int8" / "weights.bin"
    assert (second.tier, second.engine, second.p50_ms) == (TALL, "openvino", 34.0)
    assert entry.size_bytes < second.size_bytes <= entry.size_bytes + weights.stat().st_size


def test_a_bundles_tables_fit_a_narrow_pipe(capsys, tiny_bundle):
    manifest = Bundle(tiny_bundle).manifest
    print_grades(manifest)
    out = capsys.readouterr().out
    assert f"over {manifest.passport.grades[0].texts} texts" in out
    rows = [" ".join(row) for row in lines(out)]
    for grade in manifest.passport.grades:
        cosines = f"{grade.cosine_mean:.5f} {grade.cosine_p1:.5f} {grade.cosine_min:.5f}"
        row = f"{grade.tier} {grade.engine} {grade.precision} {cosines}"
        assert any(found.startswith(row) for found in rows)
    print_manifest(manifest)
    out = capsys.readouterr().out
    cross = manifest.passport.cross["short"]
    assert " ".join(["short", *(f"{cross[tier]:.4f}" for tier in ("demi", "short", "tall"))]) in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize(
    ("device", "power", "temperature", "words"),
    [
        (
            Device("Some CPU", (), 8, 4, 16384, "Linux x86_64"),
            PowerState(),
            None,
            ("16.0 GB", "battery none", "saver, throttled no, no", "cores 8", "4 may be used", "not told"),
        ),
        (
            Device("Some CPU", (), 8, 2, None, "Linux x86_64", 2, 6, 2.5, 512),
            PowerState("battery", 41.6, True, True),
            71.4,
            (
                *("unknown", "42 %", "saver, throttled yes, yes", "71 °C"),
                *("8: 2 for performance, 6 for efficiency", "limited to 2.5 cores", "limited to 512 MB"),
            ),
        ),
    ],
    ids=["desktop", "phone"],
)
def test_the_table_of_a_device(capsys, device, power, temperature, words):
    engines = {
        "onnx": EngineFacts("1.23", (EngineDevice("CPU"),), "pip install edge-embed"),
        "openvino": EngineFacts("2026", (EngineDevice("CPU"), EngineDevice("NPU", "Some NPU", ("INT8", "FP16"))), ""),
    }
    readers = (Finding("rapl", None, "readable by root alone"), Finding("battery", FakeReader(), "BAT0"))
    print_device(device, power, temperature, engines, readers)
    out = " ".join(capsys.readouterr().out.split())
    told = (
        *("Some CPU", "none known", "1.23 on CPU", "2026 on NPU (Some NPU): INT8, FP16"),
        *("energy rapl no: readable by root alone", "energy battery BAT0"),
    )
    for word in (*told, *words):
        assert word in out


def test_an_engine_that_is_missing_says_how_to_get_it(capsys):
    engines = {"openvino": EngineFacts(None, (), "pip install 'edge-embed[openvino]'")}
    print_device(DEVICE, PowerState(), None, engines, ())
    assert "not installed: pip install 'edge-embed[openvino]'" in capsys.readouterr().out


# Words


def test_a_choice_in_words():
    choice = Choice(DEMI, "onnx", "int8", "best quality; score 0.712", ((TALL, "latency 9 ms is over 5 ms"),))
    assert describe_choice(choice) == (
        "demi 1x8 on onnx int8: best quality; score 0.712\n  not tall 3x32: latency 9 ms is over 5 ms"
    )
    alone = Choice(TALL, "openvino", "fp32", "the only tier to choose from", ())
    assert describe_choice(alone) == "tall 3x32 on openvino fp32: the only tier to choose from"


# The picture


def size_of(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert png[12:16] == b"IHDR"
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


@pytest.mark.parametrize(
    "ladder",
    [LADDER, LADDER[:1], LADDER[3:]],
    ids=["two-kinds", "one-point", "no-score"],
)
def test_the_picture_is_a_png(ladder, tmp_path):
    draw_ladder(ladder, tmp_path / "deep" / "ladder.png")
    width, height = size_of((tmp_path / "deep" / "ladder.png").read_bytes())
    assert width > height > 300
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["ladder.png"]


def test_the_picture_needs_no_display(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom edge_embed.show.ladder import Rung, draw_ladder\n"
        "from edge_embed_runtimes.tiers import Tier\n"
        "draw_ladder([Rung(Tier('demi', 1, 8), 'onnx', 'int8', 1, 2.0, 3.0, 0.5, 1.0)], Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    hidden = {name: value for name, value in os.environ.items() if "DISPLAY" not in name and name != "MPLBACKEND"}
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "ladder.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=hidden)
    assert done.returncode == 0, done.stderr
    assert size_of((tmp_path / "ladder.png").read_bytes())


def test_a_picture_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"ladder.png can't be written"):
        draw_ladder(LADDER, tmp_path / "file" / "ladder.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# Bars


def test_where_there_is_no_terminal_long_work_leaves_a_line_every_half_minute(capfd, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("edge_embed.show.bars.time.monotonic", lambda: clock[0])
    with bars() as progress:
        for clock[0], done in ((1, 1), (29, 2), (31, 3), (32, 4), (62, 5)):
            progress("verify", done, 10)
    assert capfd.readouterr() == ("", "verify: 3 of 10\nverify: 5 of 10\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_on_a_terminal_are_on_standard_error(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with bars() as progress:
        progress("calibrate", 3, 10)
        progress("verify", 1, 2)
        progress("calibrate", 7, 10)
    drawn = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert re.search(r"calibrate .* 7/10", drawn)
    assert re.search(r"verify .* 1/2", drawn)
    assert capsys.readouterr().out == ""


def test_a_pipe_has_a_fixed_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert table.console().width == 120
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert table.console().width == 40


def test_a_long_path_is_folded_not_cut(capsys, tmp_path):
    long = str(Path("/a") / ("b" * 300))
    print_table("files", ["", ""], [["file", long]])
    assert "b" * 300 in "".join(capsys.readouterr().out.split())
