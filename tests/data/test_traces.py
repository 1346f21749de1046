"""Power traces as CSV."""

from pathlib import Path

import pytest

from edge_embed.data.traces import read_trace
from edge_embed_runtimes.choose.simulate import Moment
from edge_embed_runtimes.device.probe import PowerState
from edge_embed_runtimes.errors import TraceError

SAMPLES = Path(__file__).parents[2] / "samples/traces"


def write(tmp_path, *lines):
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(lines))
    return path


def test_every_column(tmp_path):
    path = write(
        tmp_path,
        "source, seconds,battery_percent,saver,throttled,pace,texts_per_s",
        "battery,0,41.5,yes,no,1.5,3",
        "mains,60,,,1,,0",
        "unknown,90,,no,0,2,",
    )
    assert read_trace(path) == (
        Moment(0, PowerState("battery", 41.5, saver=True), 1.5, 3),
        Moment(60, PowerState("mains", throttled=True), 1.0, 0),
        Moment(90, PowerState("unknown"), 2.0, 1.0),
    )


def test_two_columns_are_enough(tmp_path):
    assert read_trace(write(tmp_path, "seconds,source", "0,mains")) == (Moment(0, PowerState("mains")),)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("0,solar,,,,,", "line 3: source 'solar': allowed are mains, battery, unknown"),
        ("soon,mains,,,,,", "line 3: seconds 'soon': allowed is a number from 0"),
        (",mains,,,,,", "line 3: seconds ''"),
        ("-1,mains,,,,,", "line 3: seconds '-1'"),
        ("nan,mains,,,,,", "line 3: seconds 'nan'"),
        ("0,battery,101,,,,", "line 3: battery_percent '101': allowed is a number from 0 to 100"),
        ("0,mains,,maybe,,,", "line 3: saver 'maybe': allowed are yes and no"),
        ("0,mains,,,,0,", "line 3: pace '0'"),
        ("0,mains,,,,,many", "line 3: texts_per_s 'many'"),
    ],
)
def test_a_bad_value_is_named_with_its_place(tmp_path, row, says):
    header = "seconds,source,battery_percent,saver,throttled,pace,texts_per_s"
    with pytest.raises(TraceError, match=says):
        read_trace(write(tmp_path, header, "0,mains,,,,,", row))


@pytest.mark.parametrize(
    ("header", "says"), [("", "of an empty file"), ("seconds,power", "power"), ("source", "source")]
)
def test_a_header_that_is_none(tmp_path, header, says):
    with pytest.raises(TraceError, match=f"has the columns .*{says}.*: allowed are seconds, source"):
        read_trace(write(tmp_path, header, "0,mains"))


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_bytes(b"\xff\xfe\x00")])
def test_a_file_that_can_not_be_read(tmp_path, make):
    make(tmp_path / "trace.csv")
    with pytest.raises(TraceError, match=r"trace\.csv can't be read"):
        read_trace(tmp_path / "trace.csv")


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.csv")), ids=lambda path: path.stem)
def test_the_samples_can_be_played(path):
    moments = read_trace(path)
    times = [moment.at_s for moment in moments]
    assert len(moments) > 10 and times == sorted(set(times))
