"""What can run here: the bundle, less what is not asked for, less what is not installed."""

import importlib.util

import pytest

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.choose.options import list_options, with_costs
from edge_embed_runtimes.device.probe import read_device
from edge_embed_runtimes.device.profile import DeviceProfile
from edge_embed_runtimes.errors import BundleError, EngineError, EngineMissing, LadderError


@pytest.fixture
def bundle(bundle_folder) -> Bundle:
    return Bundle(bundle_folder)


@pytest.fixture
def without(monkeypatch):
    def hide(*modules: str) -> None:
        find_spec = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in modules else find_spec(name))

    return hide


def test_without_wishes_everything_is_listed_the_preferred_first(bundle):
    found = list_options(bundle)
    assert len(found) == 12
    assert [(o.engine, o.precision) for o in found[::3]] == [
        *(("onnx", "int8"), ("openvino", "int8"), ("onnx", "fp32"), ("openvino", "fp32"))
    ]
    assert [o.tier.name for o in found[:3]] == ["demi", "short", "tall"]
    assert [o.quality for o in found[:3]] == [0.6, 0.7, 0.8]


@pytest.mark.parametrize(
    ("wish", "count"),
    [
        ({"tier": "short"}, 4),
        ({"tier": "l2-d16"}, 4),
        ({"engine": "onnx"}, 6),
        ({"precision": "fp32"}, 6),
        ({"tier": "demi", "engine": "openvino", "precision": "int8"}, 1),
        ({"device": "CPU"}, 12),
        ({"device": "GPU"}, 6),
    ],
)
def test_wishes_are_kept(bundle, wish, count):
    found = list_options(bundle, **wish)
    assert len(found) == count
    if "tier" in wish:
        assert {o.tier for o in found} == {bundle.manifest.ladder.find(wish["tier"])}
    assert {o.engine for o in found} <= {
        wish.get("engine", "openvino" if wish.get("device") == "GPU" else o.engine) for o in found
    }
    assert all(o.precision == wish.get("precision", o.precision) for o in found)


@pytest.mark.parametrize(
    ("wish", "kind", "says"),
    [
        ({"tier": "venti"}, LadderError, "demi 1x8, short 2x16, tall 3x32"),
        ({"engine": "cuda"}, EngineError, "'cuda' is unknown: allowed are onnx, openvino"),
        ({"precision": "int4"}, BundleError, "'int4' is unknown: allowed are int8, fp16, fp32"),
    ],
)
def test_unknown_names_list_the_known_ones(bundle, wish, kind, says):
    with pytest.raises(kind, match=says):
        list_options(bundle, **wish)


def test_a_wish_the_bundle_can_not_meet(tmp_path, write_bundle):
    one = Bundle(write_bundle(tmp_path / "b", kinds=(("onnx", "int8"),)))
    with pytest.raises(BundleError, match="no onnx fp32 graphs: it has onnx int8"):
        list_options(one, engine="onnx", precision="fp32")


def test_an_engine_that_is_not_installed_is_left_out(bundle, without):
    without("openvino")
    assert {o.engine for o in list_options(bundle)} == {"onnx"}


def test_a_wished_engine_that_is_not_installed(bundle, without):
    without("openvino")
    with pytest.raises(EngineMissing, match=r"pip install 'edge-embed\[openvino\]'"):
        list_options(bundle, engine="openvino")


def test_a_bundle_for_engines_that_are_not_installed(tmp_path, write_bundle, without):
    without("openvino")
    one = Bundle(write_bundle(tmp_path / "b", kinds=(("openvino", "int8"),)))
    with pytest.raises(EngineMissing, match=r"is for openvino: pip install 'edge-embed\[openvino\]'"):
        list_options(one)


def test_a_bundle_without_scores_has_options_without_quality(tmp_path, write_bundle):
    one = Bundle(write_bundle(tmp_path / "b", scored=False))
    assert {o.quality for o in list_options(one)} == {None}


def test_costs_come_from_the_profile_at_the_asked_length(bundle, make_cost):
    costs = (
        make_cost("demi", tokens=16, ms=1),
        make_cost("demi", tokens=64, ms=4),
        make_cost("short", tokens=16, ms=2),
    )
    profile = DeviceProfile("id", read_device(), {}, "CPU", "mains", None, 0.0, costs)
    demi, short, tall = with_costs(list_options(bundle, engine="onnx", precision="int8"), profile, 17)
    assert (demi.cost, short.cost, tall.cost) == (costs[1], costs[2], None)


def test_without_a_profile_there_are_no_costs(bundle):
    assert {o.cost for o in with_costs(list_options(bundle), None, 32)} == {None}
