"""Models of Caffe, made here as Caffe wrote them, and read by OpenCV's importer."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noria import models
from noria.errors import Invalid, NotFound
from tests.conftest import need

need("cv2")


from noria.models.flavors import FLAVORS
from noria.models.flavors.caffe import Net
from noria.models.sound import caffe

pytestmark = pytest.mark.usefixtures("unsealed")

RANDOM = np.random.default_rng(0)
PICTURES = RANDOM.random((3, 2, 8, 8)).astype(np.float32)


def number(value: int) -> bytes:
    return bytes([value & 127 | 128]) + number(value >> 7) if value > 127 else bytes([value])


def part(field: int, content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return number(field << 3 | 2) + number(len(content)) + content


def blob(array: Any, old: bool) -> bytes:
    shape = [1] * (4 - array.ndim) + list(array.shape)
    dims = b"".join(number(at << 3) + number(size) for at, size in enumerate(shape, 1))
    return (dims if old else part(7, part(1, b"".join(map(number, array.shape))))) + part(5, array.astype("<f4").tobytes())


def layer(name: str, kind: str, weights: list[Any], old: int) -> bytes:
    if old:
        head = part(4, name) + number(5 << 3) + number(old)
        return part(2, head + b"".join(part(6, blob(array, True)) for array in weights))
    return part(100, part(1, name) + part(2, kind) + b"".join(part(7, blob(array, False)) for array in weights))


def made(folder: Path, text: str, weights: dict[str, list[Any]], old: bool = False) -> Net:
    folder.mkdir(exist_ok=True)
    kinds = {"conv": ("Convolution", 4), "dense": ("InnerProduct", 14)}
    content = part(1, "net") + b"".join(
        layer(name, *(kind := kinds.get(name.rstrip("0123456789"), (name.rstrip("0123456789"), 0)))[:1], arrays, kind[1] * old)
        for name, arrays in weights.items()
    )
    (folder / "net.prototxt").write_text(text)
    (folder / "net.caffemodel").write_bytes(content)
    return Net(folder / "net.prototxt", folder / "net.caffemodel")


def weight(*shape: int) -> Any:
    return RANDOM.normal(size=shape).astype(np.float32)


def text(*layers: str, head: str = 'input: "data" input_shape { dim: 1 dim: 2 dim: 8 dim: 8 }') -> str:
    return f'name: "net" # Made here.\n{head}\n' + "\n".join(f"layer {{ {each} }}" for each in layers)


def step(kind: str, name: str, bottom: str, more: str = "") -> str:
    bottoms = " ".join(f'bottom: "{each}"' for each in bottom.split())
    return f'name: "{name}" type: "{kind}" {bottoms} top: "{name}" {more}'


CONV = step("Convolution", "conv", "data", "convolution_param { num_output: 4 kernel_size: 3 pad: 1 }")
DENSE = step("InnerProduct", "dense", "{}", "inner_product_param {{ num_output: 3 }}")
FROM_DATA, FROM_CONV = DENSE.format("data"), DENSE.format("conv")
C, D, E = [weight(4, 2, 3, 3), weight(4)], [weight(3, 128), weight(3)], [weight(3, 256), weight(3)]
OLD = """input: "data" input_dim: 1 input_dim: 2 input_dim: 8 input_dim: 8
layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
layers { name: "dense" type: INNER_PRODUCT bottom: "conv" top: "dense" inner_product_param { num_output: 3 } }
layers { name: "prob" type: SOFTMAX bottom: "dense" top: "prob" }"""
BOTH = 'input: "one" input_shape { dim: 1 dim: 4 } input: "two" input_shape { dim: 1 dim: 4 }'
INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 2, 8, 8] } } }'
NETS: dict[str, tuple[str, dict[str, list[Any]]]] = {
    "number": (text(FROM_DATA), {"dense": D}),
    "binary": (text(FROM_DATA, step("Sigmoid", "p", "dense")), {"dense": D}),
    "kinds": (text(CONV, step("ReLU", "relu", "conv"), DENSE.format("relu"), step("Softmax", "p", "dense")), {"conv": C, "dense": E}),
    "old": (OLD, {"conv": C, "dense": E}),
    "pools": (text(CONV, step("Pooling", "m", "conv", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"),
                   step("Pooling", "a", "m", "pooling_param { pool: AVE global_pooling: true }")), {"conv": C}),
    "neighbours": (text(CONV, step("LRN", "n", "conv", "lrn_param { local_size: 3 alpha: 0.1 beta: 0.75 }")), {"conv": C}),
    "normed": (text(step("BatchNorm", "BatchNorm", "data", "batch_norm_param { use_global_stats: true }"),
                    step("Scale", "Scale", "BatchNorm", "scale_param { bias_term: true }")),
               {"BatchNorm": [weight(2), np.abs(weight(2)), np.ones(1, np.float32)], "Scale": [weight(2), weight(2)]}),
    "residual": (text(CONV, step("Convolution", "conv2", "data", "convolution_param { num_output: 4 kernel_size: 1 }"),
                      step("Eltwise", "sum", "conv conv2", "eltwise_param { operation: SUM }")),
                 {"conv": C, "conv2": [weight(4, 2, 1, 1), weight(4)]}),
    "joined": (text(CONV, step("Concat", "all", "data conv"), step("PReLU", "PReLU", "all")), {"conv": C, "PReLU": [weight(6)]}),
    "two outputs": (text(CONV, FROM_CONV, step("TanH", "t", "conv")), {"conv": C, "dense": E}),
    "two inputs": (text(step("Eltwise", "sum", "one two"), head=BOTH), {"dense": D}),
    "dropped": (text(CONV, step("Dropout", "drop", "conv", "dropout_param { dropout_ratio: 0.5 }"), DENSE.format("drop"), head=INPUT),
                {"conv": C, "dense": E}),
}  # fmt: skip


def inputs(name: str) -> Any:
    return {"one": weight(5, 4), "two": weight(5, 4)} if name == "two inputs" else PICTURES


def ask(folder: Path, x: Any) -> Any:
    return models.load(folder).predict(x)


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
    return np.array_equal(one, other)


@pytest.mark.mlflow
@pytest.mark.filterwarnings("ignore")  # mlflow's own
@pytest.mark.parametrize("name", NETS)
def test_a_network_is_kept_and_mlflow_asks_it(name: str, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    net, x = made(tmp_path / "made", *NETS[name], old=name == "old"), inputs(name)
    wanted = FLAVORS.get("caffe").predictor(net)(x)
    models.save(net, tmp_path / "ours")
    for file in (net.prototxt, net.caffemodel):
        file.unlink()
    assert equal(ask(tmp_path / "ours", x), wanted)
    assert equal(mlflow.pyfunc.load_model(str(tmp_path / "ours")).predict(x), wanted)


def test_a_network_answers_what_its_layers_say(tmp_path: Path) -> None:
    """Convolution, rectifier, inner product and softmax, as Caffe defines them."""
    for name in ("kinds", "old"):
        padded = np.pad(PICTURES, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        conv = np.maximum(np.einsum("nchwij,ocij->nohw", windows, C[0]) + C[1][None, :, None, None], 0)
        dense = conv.reshape(3, -1) @ E[0].T + E[1]
        wanted = np.exp(dense - dense.max(1, keepdims=True))
        models.save(made(tmp_path / f"{name} made", *NETS[name], old=name == "old"), tmp_path / name)
        np.testing.assert_allclose(ask(tmp_path / name, PICTURES), wanted / wanted.sum(1, keepdims=True), atol=1e-5)


def test_a_batch_of_another_length_and_the_next_call_do_not_touch_an_answer(tmp_path: Path) -> None:
    models.save(made(tmp_path / "made", *NETS["kinds"]), tmp_path / "m")
    predict = FLAVORS.get("caffe").predictor(models.load(tmp_path / "m").model)
    first = predict(PICTURES)
    before = first.copy()
    np.testing.assert_allclose(predict(PICTURES[1:2]), before[1:2], atol=1e-6)
    assert np.array_equal(first, before)


@pytest.mark.parametrize(("content", "why"), [
    ("", "it has no layers"), ("layer {", "cut off"), ("layer { name: }", "value is due"), ("\x00", "line 1 cannot be read"),
    ("layer {" * 50, "nested too deep"), (text(step("Data", "data", "")).partition("\n")[0] + "layer { name: 'x' }", "no layers"),
    ('layer { name: "data" type: "Data" top: "data" }', "it has no input"),
    (text(FROM_DATA, head='input: "data" input_shape { dim: 1 dim: 99999999999 }'), "shape of its input"),
    (text(FROM_DATA, head='input: "data" input_shape { dim: 1 dim: -5 }'), "shape of its input"),
    (text(step("Unheard", "u", "data")), 'of type "Unheard"'),
    (text(FROM_DATA.replace("num_output: 3", "num_output: 0")), "counts to zero"),
    (text(FROM_DATA, head='input: "data" input_shape { dim: x }'), "cannot be read"),
])  # fmt: skip
def test_a_text_that_is_no_network_is_one_sentence(content: str, why: str, tmp_path: Path) -> None:
    models.save(made(tmp_path / "made", *NETS["number"]), tmp_path / "m")
    (tmp_path / "m" / "data" / "deploy.prototxt").write_text(content)
    with pytest.raises(Invalid, match=why) as said:
        ask(tmp_path / "m", PICTURES)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_weights_that_are_cut_off_are_refused(share: float, tmp_path: Path) -> None:
    models.save(made(tmp_path / "made", *NETS["kinds"]), tmp_path / "m")
    file = tmp_path / "m" / "data" / "model.caffemodel"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(Invalid, match="cannot be read"):
        models.load(tmp_path / "m")


@pytest.mark.parametrize("content", [
    part(100, part(1, "dense") + part(7, part(7, part(1, number(2**40))) + part(5, bytes(8)))),
    part(100, part(1, "dense") + part(7, part(7, part(1, number(3))) + part(5, bytes(8)))),
    b"\xff" * 30, b"\x80" * 9, struct.pack("<I", 7), part(100, b"\x0a\x7f"),
])  # fmt: skip
def test_weights_of_another_length_than_they_say_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"have \d+ numbers|no protobuf|cut off|no layers"):
        caffe.weights(content)


def test_weights_of_another_network_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        FLAVORS.get("caffe").predictor(made(tmp_path / "made", NETS["number"][0], {"dense": [weight(3, 5), weight(3)]}))(PICTURES)


def test_files_that_are_not_there_and_input_that_does_not_fit_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="two files"):
        Net(tmp_path / "a.prototxt", tmp_path / "a.caffemodel")
    models.save(made(tmp_path / "made", *NETS["two inputs"]), tmp_path / "m")
    with pytest.raises(Invalid, match="inputs are one, two"):
        ask(tmp_path / "m", PICTURES)
    with pytest.raises(Invalid, match="does not take this input"):
        ask(tmp_path / "m", {"one": weight(5, 4), "two": weight(4, 5)})


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    models.save(made(tmp_path / "made", *NETS["number"]), tmp_path / "m")
    file = tmp_path / "m" / "data" / "model.caffemodel"
    file.unlink()
    file.symlink_to(tmp_path / "made" / "net.caffemodel")
    with pytest.raises(Invalid, match="is a link"):
        models.load(tmp_path / "m")
