"""Folders that are no models: damaged ones, and those made to run code, to lead out, or to take more than there is. Each writes a canary if it runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from noria import models
from noria.models import digests

Make = Callable[[Path, Path], None]
CASES: dict[str, Make] = {}


def case(make: Make) -> Make:
    CASES[make.__name__] = make
    return make


class Bomb:
    """A pickle of it makes the canary, twice over: by pathlib, and by the shell."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.canary}",))


def write(folder: Path, flavors: dict[str, Any], **other: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data").mkdir(exist_ok=True)
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors, **other}))


def sklearn(folder: Path, file: str, kind: str, **more: Any) -> None:
    write(folder, {"sklearn": {"pickled_model": file, "serialization_format": kind, **more}})


def honest(folder: Path) -> None:
    """A model that would load."""
    from sklearn.linear_model import LinearRegression

    models.save(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]), folder, input_example=np.zeros((1, 1)))


def network(folder: Path) -> None:
    from noria.train import architectures

    models.save(architectures.build("mlp", inputs=4, width=3, num_classes=2), folder)


def relist(folder: Path) -> None:
    """Digests that fit, as whoever changes a folder can make them."""
    (folder / digests.FILE).unlink(missing_ok=True)
    digests.write(folder)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = yaml.safe_load((folder / "MLmodel").read_text())
    change(content)
    (folder / "MLmodel").write_text(yaml.safe_dump(content))
    relist(folder)


# Pickles, in each place where somebody might read one.


@case
def torch_module(folder: Path, canary: Path) -> None:
    import torch

    write(folder, {"pytorch": {"model_data": "data"}})
    torch.save(Bomb(canary), folder / "data" / "model.pth")


@case
def torch_state(folder: Path, canary: Path) -> None:
    import torch

    network(folder)
    torch.save({"layers.1.weight": Bomb(canary)}, folder / "data" / "state.pt")
    relist(folder)


@case
def pickled_estimator(folder: Path, canary: Path) -> None:
    sklearn(folder, "model.pkl", "pickle")
    (folder / "model.pkl").write_bytes(pickle.dumps(Bomb(canary)))


@case
def cloudpickled_estimator(folder: Path, canary: Path) -> None:
    sklearn(folder, "model.pkl", "cloudpickle")
    (folder / "model.pkl").write_bytes(pickle.dumps(Bomb(canary)))


@case
def estimator_of_no_said_format(folder: Path, canary: Path) -> None:
    write(folder, {"sklearn": {"pickled_model": "model.pkl"}})
    (folder / "model.pkl").write_bytes(pickle.dumps(Bomb(canary)))


@case
def joblib_estimator(folder: Path, canary: Path) -> None:
    import joblib

    sklearn(folder, "model.joblib", "joblib")
    joblib.dump(Bomb(canary), folder / "model.joblib")


@case
def pickle_that_says_it_is_skops(folder: Path, canary: Path) -> None:
    sklearn(folder, "model.skops", "skops")
    (folder / "model.skops").write_bytes(pickle.dumps(Bomb(canary)))


def skops(folder: Path, members: dict[str, bytes], schema: dict[str, Any], **more: Any) -> None:
    sklearn(folder, "model.skops", "skops", **more)
    with zipfile.ZipFile(folder / "model.skops", "w") as archive:
        archive.writestr("schema.json", json.dumps(schema))
        for name, content in members.items():
            archive.writestr(name, content)


@case
def skops_of_unknown_types(folder: Path, canary: Path) -> None:
    tuple_of = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "__id__": 2,
                "content": [{"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "__id__": 3,
                             "content": f'"touch {canary}"', "is_json": True}]}  # fmt: skip
    node = {"__class__": "system", "__module__": "os", "__loader__": "ObjectNode", "__id__": 1, "content": tuple_of}
    skops(folder, {}, {**node, "protocol": 2, "_skops_version": "0.16"}, skops_trusted_types=["os.system"])


@case
def skops_with_an_array_of_objects(folder: Path, canary: Path) -> None:
    array = io.BytesIO()
    np.save(array, np.array([Bomb(canary)], dtype=object), allow_pickle=True)
    node = {
        "__class__": "ndarray",
        "__module__": "numpy",
        "__loader__": "NdArrayNode",
        "type": "numpy",
        "file": "a.npy",
        "__id__": 1,
    }
    skops(folder, {"a.npy": array.getvalue()}, {**node, "protocol": 2, "_skops_version": "0.16"})


@case
def keras_lambda(folder: Path, canary: Path) -> None:
    code = {"class_name": "__lambda__", "config": {"code": "4wEAAAA=", "defaults": None, "closure": None}}
    keras(folder, "keras.layers", "Lambda", {"name": "a", "function": code})


@case
def keras_module_path(folder: Path, canary: Path) -> None:
    keras(folder, "os", "system", {"command": f"touch {canary}"})


@case
def keras_custom_objects(folder: Path, canary: Path) -> None:
    keras(folder, "keras", "Sequential", {"name": "a", "layers": []}, flavor="tensorflow")
    (folder / "data" / "global_custom_objects.cloudpickle").write_bytes(pickle.dumps(Bomb(canary)))


def keras(folder: Path, module: str, name: str, config: dict[str, Any], flavor: str = "keras") -> None:
    write(folder, {flavor: {"data": "data", "keras_backend": "torch"}})
    layer = {"module": module, "class_name": name, "config": config, "registered_name": name}
    whole = {"module": "keras", "class_name": "Sequential", "config": {"name": "m", "layers": [layer]}, "registered_name": None}
    with zipfile.ZipFile(folder / "data" / "model.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(whole))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.0.0", "date_saved": "now"}))


@case
def python_model(folder: Path, canary: Path) -> None:
    write(folder, {"python_function": {"loader_module": "mlflow.pyfunc.model", "python_model": "python_model.pkl"}})
    (folder / "python_model.pkl").write_bytes(pickle.dumps(Bomb(canary)))


@case
def code_that_comes_along(folder: Path, canary: Path) -> None:
    honest(folder)
    (folder / "code").mkdir()
    for name in ("sklearn.py", "skops.py", "sitecustomize.py"):
        (folder / "code" / name).write_text(f"open({str(canary)!r}, 'w')")
    edit(folder, lambda content: content["flavors"].update(python_function={"loader_module": "skops", "code": "../code"}))


@case
def evil_loader(folder: Path, canary: Path) -> None:
    write(folder, {"python_function": {"loader_module": "payload", "code": "code", "data": "data"}})
    (folder / "code").mkdir()
    (folder / "code" / "payload.py").write_text(f"open({str(canary)!r}, 'w')\ndef _load_pyfunc(path): open({str(canary)!r}, 'w')")


@case
def yaml_object(folder: Path, canary: Path) -> None:
    write(folder, {})
    (folder / "MLmodel").write_text(f"flavors: !!python/object/apply:os.system ['touch {canary}']\n")


@case
def transformers_pickle(folder: Path, canary: Path) -> None:
    transformers(folder, {})
    (folder / "model" / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(canary)))


@case
def transformers_code(folder: Path, canary: Path) -> None:
    transformers(folder, {"auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}})
    (folder / "model" / "evil.py").write_text(f"open({str(canary)!r}, 'w')")
    (folder / "model" / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")


def transformers(folder: Path, config: dict[str, Any]) -> None:
    write(folder, {"transformers": {"task": "text-classification", "model_binary": "model", "pipeline_model_type": "BertModel"}})
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text(json.dumps({"model_type": "bert", **config}))


# Ways out of the folder.


def leads(key: str, place: str) -> Make:
    def make(folder: Path, canary: Path) -> None:
        honest(folder)
        edit(folder, lambda content: content["flavors"]["sklearn"].update({key: place}))

    return make


CASES["model_data_goes_up"] = leads("model_data", "../outside")
CASES["pickled_model_is_absolute"] = leads("pickled_model", "/etc/passwd")
CASES["code_goes_up"] = leads("code", "a/../../..")
CASES["path_with_nul"] = leads("model_data", "da\0ta")
CASES["path_to_home"] = leads("model_data", "~/.ssh")


@case
def example_goes_up(folder: Path, canary: Path) -> None:
    honest(folder)
    edit(folder, lambda content: content["saved_input_example_info"].update(artifact_path="../../../etc/passwd"))


@case
def artifact_of_a_function_goes_up(folder: Path, canary: Path) -> None:
    entry = {
        "loader_module": "mlflow.pyfunc.model",
        "python_model": "m.pkl",
        "artifacts": {"k": {"path": "../../secret", "uri": ""}},
    }
    write(folder, {"python_function": entry})


@case
def member_of_an_archive_goes_up(folder: Path, canary: Path) -> None:
    keras(folder, "keras.layers", "Dense", {"units": 1})
    with zipfile.ZipFile(folder / "data" / "model.keras", "a") as archive:
        archive.writestr(f"../../../{canary.name}", "")


@case
def member_of_an_archive_is_a_link(folder: Path, canary: Path) -> None:
    keras(folder, "keras.layers", "Dense", {"units": 1})
    link = zipfile.ZipInfo("model.weights.h5")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(folder / "data" / "model.keras", "a") as archive:
        archive.writestr(link, "/etc/passwd")


@case
def linked_file(folder: Path, canary: Path) -> None:
    honest(folder)
    (folder / "data" / "model.skops").rename(folder.parent / "elsewhere.skops")
    (folder / "data" / "model.skops").symlink_to(folder.parent / "elsewhere.skops")


@case
def linked_folder(folder: Path, canary: Path) -> None:
    honest(folder)
    (folder / "data").rename(folder.parent / "elsewhere")
    (folder / "data").symlink_to(folder.parent / "elsewhere")


@case
def link_that_goes_round(folder: Path, canary: Path) -> None:
    honest(folder)
    (folder / "data" / "again").symlink_to(folder)


@case
def linked_description(folder: Path, canary: Path) -> None:
    honest(folder)
    (folder / "MLmodel").rename(folder.parent / "MLmodel")
    (folder / "MLmodel").symlink_to(folder.parent / "MLmodel")


@case
def hard_link(folder: Path, canary: Path) -> None:
    honest(folder)
    secret = folder.parent / "secret"
    secret.write_text("key")
    (folder / "data" / "file").hardlink_to(secret)
    relist_as_found(folder)


def relist_as_found(folder: Path) -> None:
    (folder / digests.FILE).unlink()


@case
def pipe(folder: Path, canary: Path) -> None:
    honest(folder)
    os.mkfifo(folder / "data" / "pipe")


@case
def pipe_for_weights(folder: Path, canary: Path) -> None:
    honest(folder)
    (folder / "data" / "model.skops").unlink()
    os.mkfifo(folder / "data" / "model.skops")


@case
def name_of_two_lines(folder: Path, canary: Path) -> None:
    honest(folder)
    (folder / "data" / "a\nb").write_text("")


# Damage.


@case
def changed_weights(folder: Path, canary: Path) -> None:
    network(folder)
    file = folder / "data" / "state.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@case
def added_file(folder: Path, canary: Path) -> None:
    honest(folder)
    (folder / "data" / "more").write_text("")


@case
def missing_file(folder: Path, canary: Path) -> None:
    honest(folder)
    (folder / "requirements.txt").unlink()


@case
def cut_off(folder: Path, canary: Path) -> None:
    network(folder)
    file = folder / "data" / "state.pt"
    file.write_bytes(file.read_bytes()[:-200])
    relist(folder)


@case
def digests_that_are_none(folder: Path, canary: Path) -> None:
    honest(folder)
    (folder / digests.FILE).write_text('{"algorithm": "md5", "files": {}}')


# More than there is.


@case
def zip_bomb(folder: Path, canary: Path) -> None:
    keras(folder, "keras.layers", "Dense", {"units": 1})
    with (
        zipfile.ZipFile(folder / "data" / "model.keras", "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("model.weights.h5", "w") as member,
    ):
        for _ in range(128):
            member.write(bytes(2**20))


@case
def huge_safetensors_header(folder: Path, canary: Path) -> None:
    transformers(folder, {})
    (folder / "model" / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")


@case
def huge_tensor_in_safetensors(folder: Path, canary: Path) -> None:
    transformers(folder, {})
    header = json.dumps({"w": {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 2**42]}}).encode()
    (folder / "model" / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)


@case
def huge_array(folder: Path, canary: Path) -> None:
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "<f8", "fortran_order": False, "shape": (2**40,)})
    node = {
        "__class__": "ndarray",
        "__module__": "numpy",
        "__loader__": "NdArrayNode",
        "type": "numpy",
        "file": "a.npy",
        "__id__": 1,
    }
    skops(folder, {"a.npy": array.getvalue()}, {**node, "protocol": 2, "_skops_version": "0.16"})


@case
def huge_tensor_in_onnx(folder: Path, canary: Path) -> None:
    """ModelProto with one initializer of 2^40 floats and no data (onnx.proto: graph = 7, initializer = 5, dims = 1, data_type = 2)."""
    write(folder, {"onnx": {"data": "model.onnx", "onnx_version": "1.17"}})
    tensor = b"\x08" + b"\x80\x80\x80\x80\x80\x20" + b"\x10\x01"
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    (folder / "model.onnx").write_bytes(b"\x08\x08" + b"\x3a" + bytes([len(graph)]) + graph)


@case
def huge_network(folder: Path, canary: Path) -> None:
    network(folder)
    (folder / "data" / "architecture.json").write_text(
        json.dumps({"name": "mlp", "arguments": {"inputs": 10**6, "width": 10**6}})
    )
    relist(folder)


@case
def huge_description(folder: Path, canary: Path) -> None:
    write(folder, {"sklearn": {}})
    with (folder / "MLmodel").open("r+b") as file:
        file.truncate(2**30)


@case
def deep_yaml(folder: Path, canary: Path) -> None:
    write(folder, {})
    (folder / "MLmodel").write_text("flavors: " + "[" * 100_000)


@case
def laughing_anchors(folder: Path, canary: Path) -> None:
    write(folder, {})
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (folder / "MLmodel").write_text("\n".join([*lines, "flavors: {sklearn: *a11}"]))


@case
def anchor_that_holds_itself(folder: Path, canary: Path) -> None:
    write(folder, {})
    (folder / "MLmodel").write_text("flavors: &a {sklearn: *a}")


@case
def signature_of_no_tensor(folder: Path, canary: Path) -> None:
    honest(folder)
    tensor = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2**50, 2**50]}}]
    edit(folder, lambda content: content.update(signature={"inputs": json.dumps(tensor), "outputs": None, "params": None}))


@case
def signature_too_deep(folder: Path, canary: Path) -> None:
    honest(folder)
    inputs = '[{"type": "array", "items": ' * 1 + '{"type": "array", "items": ' * 20_000
    edit(folder, lambda content: content.update(signature={"inputs": inputs, "outputs": None, "params": None}))


@case
def no_description_of_flavors(folder: Path, canary: Path) -> None:
    write(folder, {})
    (folder / "MLmodel").write_bytes(b"\xff\xfe\x00flavors")
