"""TensorFlow's SavedModel: a program of functions whose operations may also read and write files or call Python. What of it can run is
looked at: all that its objects' functions call. What saves and restores it besides is in every SavedModel, and is run by nobody here.

Source: saved_model.proto, saved_object_graph.proto and function.proto of TensorFlow 2; tensorflow/core/ops for what is stateful.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

_REFUSED = re.compile(
    r".*(?:PyFunc|Dataset|Iterator|Checkpoint|Rpc|Summary|Reader|Filesystem|FileSystem).*|(?:Read|Write)File|MatchingFiles|(?:Save|Restore).*"
    r"|GenerateVocabRemapping|LoadAndRemapMatrix|ShardedFilespec|_?(?:Host)?(?:Send|Recv).*|Xla(?:Launch|HostCompute|Recv|Send).*|Debug.*|Print.*"
)
_STATEFUL = re.compile(
    r"VarHandleOp|ReadVariableOp|Assign(?:Add|Sub)?VariableOp|VarIsInitializedOp|Resource(?:Gather|GatherNd|Scatter\w*|StridedSliceAssign)"
    r"|(?:Stateful)?PartitionedCall|If|While|Case|Assert|NoOp|Placeholder\w*|DestroyResourceOp|DisableCopyOnRead"
    r"|(?:Mutable)?(?:Dense)?HashTable(?:OfTensors)?(?:V2)?|LookupTable(?:Find|Import|Export|Insert|Remove|Size)(?:V2)?|InitializeTableV2"
    r"|Random\w*|Multinomial|ParameterizedTruncatedNormal|TruncatedNormal|StatelessRandomGetKeyCounter|Stack\w*|TensorArray\w*|AnonymousHashTable"
)


def check(model: Any, stateful: Callable[[str], bool | None]) -> None:
    """model: a parsed SavedModel. stateful: whether an operation has effects, None for one that is not known here.

    Raises ValueError, with what a model would not do.
    """
    if len(model.meta_graphs) != 1 or not model.meta_graphs[0].HasField("object_graph_def"):
        raise ValueError("it is of TensorFlow 1, whose graphs run when they are loaded")
    graph = model.meta_graphs[0]
    for asset in graph.asset_file_def:
        if PurePosixPath(asset.filename).is_absolute() or ".." in PurePosixPath(asset.filename).parts:
            raise ValueError("it asks for a file outside of its folder")
    for op in sorted(_used(graph)):
        effects = stateful(op)
        if effects is None or _REFUSED.fullmatch(op) or (effects and not _STATEFUL.fullmatch(op)):
            raise ValueError(f"it uses {op:.60}")


def _used(graph: Any) -> set[str]:
    """The operations of all functions that its objects have, and of those that these call."""
    held = {function.signature.name: function for function in graph.graph_def.library.function}
    gradients = {each.function_name: each.gradient_func for each in graph.graph_def.library.gradient}
    left, seen, used = list(graph.object_graph_def.concrete_functions), set[str](), set[str]()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in held:
            raise ValueError(f"it has no function {name:.60}")
        if name in gradients:
            left.append(gradients[name])
        for node in held[name].node_def:
            if node.op in held:
                left.append(node.op)
            else:
                used.add(node.op)
            for value in node.attr.values():
                left += [called for called in _called(value) if called]
    return used


def _called(value: Any) -> Iterator[str]:
    yield value.func.name
    for function in value.list.func:
        yield function.name
