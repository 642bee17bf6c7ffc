"""Boosted trees in the files of XGBoost and LightGBM, whose readers follow a child or a feature by its number unchecked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from noria.models.sound import ubjson

Ints = np.ndarray[Any, np.dtype[np.int64]]
_NONE = (-1, 2**31 - 1)
"""The parent of a root."""
_CATEGORIES = 1 << 24
"""XGBoost's own limit: a category is a bit in a field that is made as long as the largest one."""


def xgboost(content: bytes) -> None:
    """A model as JSON or UBJSON. Raises ValueError, with what is wrong with it."""
    try:
        model = ubjson.loads(content) if content[:1] == b"{" and content[1:2] in b"iUIlL" else _json(content)
        _learner(model["learner"])
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"it is not what XGBoost writes ({error!r:.80})") from None


def _json(content: bytes) -> Any:
    def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            raise ValueError("it says something twice")
        return table

    return json.loads(content, object_pairs_hook=once)


def _learner(learner: Mapping[str, Any]) -> None:
    given = learner["learner_model_param"]
    features, groups = int(given["num_feature"]), max(1, int(given.get("num_class", 0)), int(given.get("num_target", 1)))
    _need(len(json.loads(given["base_score"])) in (1, groups) if given["base_score"].startswith("[") else True, "its base scores")
    classes = learner["objective"].get("softmax_multiclass_param", {}).get("num_class", given.get("num_class", "0"))
    _need(classes == given.get("num_class", "0"), "its number of classes")
    booster = learner["gradient_booster"]
    if booster["name"] == "gblinear":
        _need(len(booster["model"]["weights"]) == (features + 1) * groups, "its weights")
        return
    if booster["name"] == "dart":
        _need(len(booster["weight_drop"]) == len(booster["gbtree"]["model"]["trees"]), "its weights of trees")
        booster = booster["gbtree"]
    _forest(booster["model"], features, groups)


def _forest(model: Mapping[str, Any], features: int, groups: int) -> None:
    trees = model["trees"]
    _need(int(model["gbtree_model_param"]["num_trees"]) == len(trees), "its number of trees")
    info, rounds = _ints(model["tree_info"]), _ints(model.get("iteration_indptr", [0, len(trees)]))
    _need(len(info) == len(trees) and bool(((info >= 0) & (info < groups)).all()), "what its trees are for")
    _need(len(rounds) > 0 and rounds[0] == 0 and rounds[-1] == len(trees) and _rising(rounds), "its rounds")
    for number, tree in enumerate(trees):
        _need(tree["id"] == number, "the number of a tree")
        _tree(tree, features)
    _encoded(model.get("cats", {}))


def _encoded(cats: Mapping[str, Any]) -> None:
    """The names of categories, as a table that they were read from had them."""
    sizes = []
    for column in cats.get("enc", []):
        if "offsets" in column:
            bounds = [*_ints(column["offsets"]).tolist()] or [0]
            _need(bounds[0] == 0 and bounds[-1] == len(column["values"]) and _rising(np.array(bounds)), "its names")
        sizes.append(len(bounds) - 1 if "offsets" in column else len(column["values"]))
    segments, order = _ints(cats.get("feature_segments", [])), _ints(cats.get("sorted_idx", []))
    if sizes:
        _need(len(segments) == len(sizes) + 1 and list(np.diff(segments)) == sizes and segments[0] == 0, "its names")
    _need(len(order) == sum(sizes) and bool((order >= 0).all() and (order < np.repeat(sizes, sizes)).all()), "its names")


def _tree(tree: Mapping[str, Any], features: int) -> None:
    left, right, feature, kind = (
        _ints(tree[name]) for name in ("left_children", "right_children", "split_indices", "split_type")
    )
    count, width = len(left), int(tree["tree_param"]["size_leaf_vector"])
    same = [right, feature, kind, tree["default_left"], tree["split_conditions"], tree["parents"]]
    _need(count == int(tree["tree_param"]["num_nodes"]) > 0 and all(len(part) == count for part in same), "the length of a tree")
    _need(len(tree["base_weights"]) == count * max(width, 1), "the length of a tree")
    inner, parents = left != -1, _ints(tree["parents"])
    children, own = np.concatenate([left[inner], right[inner]]), np.flatnonzero(inner)
    _branches(children, count)
    _need(parents[0] in _NONE and bool((parents[children] == np.concatenate([own, own])).all()), "the way back in a tree")
    _need(bool((np.isin(parents, _NONE) | ((parents >= 0) & (parents < count))).all()), "the way back in a tree")
    leaves = len(tree["leaf_weights"]) // max(width, 1) if "leaf_weights" in tree else 0  # Of several targets, kept by number.
    _need(bool(((right[~inner] == -1) | ((right[~inner] >= 0) & (right[~inner] < leaves))).all()), "the children of a leaf")
    _need(bool(((feature[inner] >= 0) & (feature[inner] < features)).all()), "the features of a tree")
    _categorical(tree, set(np.flatnonzero(inner & (kind == 1)).tolist()), count)


def _categorical(tree: Mapping[str, Any], wanted: set[int], count: int) -> None:
    nodes, first, size, kept = (_ints(tree.get(f"categories{name}", [])) for name in ("_nodes", "_segments", "_sizes", ""))
    _need(len(nodes) == len(first) == len(size) and wanted <= set(nodes.tolist()), "its categories")
    _need(bool(((nodes >= 0) & (nodes < count)).all() and (np.diff(nodes) > 0).all()), "its categories")
    _need(bool((first >= 0).all() and (size >= 0).all() and (first + size <= len(kept)).all()), "its categories")
    _need(bool(((kept >= 0) & (kept < _CATEGORIES)).all()), "its categories")


def _branches(children: Ints, count: int) -> None:
    """Each node but the root is the child of one other at most, so no way leads round in a circle."""
    _need(
        bool(((children > 0) & (children < count)).all()) and len(np.unique(children)) == len(children), "the way through a tree"
    )


def _ints(values: Any) -> Ints:
    array = np.asarray(values)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise ValueError("it has something else where numbers are due")
    return array.astype(np.int64).ravel()


def _rising(values: Ints) -> bool:
    return bool((np.diff(values) >= 0).all())


def _need(true: bool, what: str) -> None:
    if not true:
        raise ValueError(f"{what} cannot be right")


_NUMBER = r"-?(?:\d{1,400}(?:\.\d{0,400})?(?:e[+-]?\d{1,3})?|inf|nan)"
_NUMBERS = re.compile(rf" *(?:{_NUMBER}(?: +|$))*")
_INFO = re.compile(rf"none|\[{_NUMBER}:{_NUMBER}\]|{_NUMBER}(?::{_NUMBER})*")
_LINE = re.compile(r"|feature_importances:|.+=\d+|parameters:|\[\w+: .*\]|end of parameters|pandas_categorical:.*")
"""LightGBM's own reader ends the whole process at a number that is none, and at a parameter of another form."""


def lightgbm(text: str) -> None:
    """A model as LightGBM's text. Raises ValueError, with what is wrong with it."""
    if "\r" in text or "\0" in text:
        raise ValueError("it is not what LightGBM writes")
    head, *trees = text.split("Tree=")
    said = _said(head)
    try:
        features, each = int(said["max_feature_idx"]) + 1, int(said["num_tree_per_iteration"])
        sizes = [int(size) for size in said["tree_sizes"].split()] if "tree_sizes" in said else []
        _need(each >= max(1, int(said["num_class"]) if "multiclass" in said.get("objective", "") else 1), "its number of classes")
        _need(len(trees) % each == 0 and len(sizes) in (0, len(trees)), "its number of trees")
        _need(features == len(said["feature_names"].split()) == len(said["feature_infos"].split()), "its features")
        _need(all(_INFO.fullmatch(info) for info in said["feature_infos"].split()), "its features")
        _places(text, sizes)
        for tree in trees:
            lines, _, rest = tree.partition("\n")[2].partition("\n\n")
            _need(not rest.strip("\n") or rest.lstrip("\n").startswith("end of trees\n"), "what follows a tree")
            _need(all("=" in line for line in lines.split("\n")), "a line of a tree")
            _text_tree(_said(lines), features)
        _need(all(_LINE.fullmatch(line) for line in text.partition("\nend of trees\n")[2].split("\n")), "what follows its trees")
    except KeyError as missing:
        raise ValueError(f"it has no {missing}") from None


def _places(text: str, sizes: Sequence[int]) -> None:
    """LightGBM reads the trees by these sizes, we by their names: both must mean the same."""
    start = text.find("\nTree=") + 1
    for size in sizes:
        _need(size > 5 and text.startswith("Tree=", start), "the size of a tree")
        start += size


def _said(lines: str) -> dict[str, str]:
    pairs = [line.partition("=")[::2] for line in lines.split("\n") if "=" in line]
    said = dict(pairs)
    _need(len(said) == len(pairs), "what it says twice")
    return said


def _text_tree(said: Mapping[str, str], features: int) -> None:
    _need(all(_NUMBERS.fullmatch(values) for values in said.values()), "a number in a tree")
    leaves, cats = int(said["num_leaves"]), int(said["num_cat"])
    inner = leaves - 1
    _need(leaves >= 1 and cats >= 0 and len(said["leaf_value"].split()) == leaves, "the leaves of a tree")
    if inner == 0:
        return
    left, right, feature, kind = (
        np.array(said[name].split(), np.int64) for name in ("left_child", "right_child", "split_feature", "decision_type")
    )
    _need(len(left) == len(right) == len(feature) == len(kind) == len(said["threshold"].split()) == inner, "the length of a tree")
    _need(all(len(said[name].split()) == inner for name in ("split_gain", "internal_value", "internal_weight", "internal_count")
              if name in said), "the length of a tree")  # fmt: skip
    _need(
        all(len(said[name].split()) == leaves for name in ("leaf_weight", "leaf_count") if name in said), "the leaves of a tree"
    )
    children = np.concatenate([left, right])
    _branches(children[children >= 0], inner)
    _need(bool((children >= -leaves).all() and (feature >= 0).all() and (feature < features).all()), "the way through a tree")
    _text_categories(said, cats, [float(value) for value, bits in zip(said["threshold"].split(), kind, strict=True) if bits & 1])
    if said.get("is_linear", "0") != "0":
        _linear(said, leaves, features)


def _text_categories(said: Mapping[str, str], cats: int, wanted: Sequence[float]) -> None:
    _need(all(value.is_integer() and 0 <= value < cats for value in wanted), "its categories")
    if cats:
        bounds = [int(value) for value in said["cat_boundaries"].split()]
        _need(len(bounds) == cats + 1 and bounds[0] == 0 and all(one <= two for one, two in pairwise(bounds)), "its categories")
        _need(bounds[-1] == len(said["cat_threshold"].split()), "its categories")


def _linear(said: Mapping[str, str], leaves: int, features: int) -> None:
    each = [int(value) for value in said["num_features"].split()]
    used = [int(value) for value in said["leaf_features"].split()]
    _need(len(each) == len(said["leaf_const"].split()) == leaves and min(each) >= 0, "the leaves of a tree")
    _need(sum(each) == len(used) == len(re.findall(r"\S+", said["leaf_coeff"])), "the leaves of a tree")
    _need(all(0 <= feature < features for feature in used), "the leaves of a tree")
