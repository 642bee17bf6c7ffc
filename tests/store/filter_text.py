"""Filters as hypothesis makes them, and as a person would write them."""

from __future__ import annotations

from hypothesis import strategies as st

from noria.store.filters import AllOf, AnyOf, Comparison, Identifier, Node, Not

TEXTS = st.sampled_from(
    ["", "a", "A", "ab", "it's", 'a"b', "100%", "a_b", "a\\b", "a\\%", "[a]", "a*", "a?", "é", "日本", "x" * 260, "x" * 259 + "y"]
)
PATTERNS = st.one_of(TEXTS, st.text("aAbx%_\\é[]*?", max_size=6).filter(lambda text: not text.endswith("\\")))
NUMBERS = st.sampled_from([-1, 0, 1, 0.5, 1.5, 1e308, float("inf"), float("-inf")])
TIMES = st.sampled_from([0, 1000, 1001, 1002, 2000, 1000.5, 2**62])
KEYS = st.sampled_from(["a", "b", "c d"])
OF = st.sampled_from(["last", "first", "min", "max"])


def _clauses(left: st.SearchStrategy[Identifier], values: st.SearchStrategy[object], *ops: str) -> st.SearchStrategy[Comparison]:
    return st.one_of(
        st.builds(Comparison, left, st.sampled_from(ops), values),
        st.builds(Comparison, left, st.sampled_from(["IN", "NOT IN"]), st.lists(values, min_size=1, max_size=3)),
        st.builds(Comparison, left, st.sampled_from(["IS", "IS NOT"]), st.none()),
    )


_METRICS = st.builds(Identifier, st.just("metrics"), KEYS, OF)
_TEXTS = st.one_of(
    st.builds(Identifier, st.sampled_from(["params", "tags"]), KEYS),
    st.builds(Identifier, st.just("datasets"), st.sampled_from(["name", "digest", "context"])),
    st.builds(Identifier, st.just("attributes"), st.sampled_from(["run_name", "status", "user_id"])),
)
_TIMES = st.builds(Identifier, st.just("attributes"), st.sampled_from(["start_time", "end_time", "duration"]))
COMPARE = ("=", "!=", "<", "<=", ">", ">=")
CLAUSES = st.one_of(
    _clauses(_METRICS, NUMBERS, *COMPARE),
    _clauses(_TIMES, TIMES, *COMPARE),
    _clauses(_TEXTS, TEXTS, "=", "!="),
    st.builds(Comparison, _TEXTS, st.sampled_from(["LIKE", "ILIKE"]), PATTERNS),
)


def _flat(kind: type[AllOf] | type[AnyOf], parts: list[Node]) -> Node:
    return kind([inner for part in parts for inner in (part.parts if isinstance(part, kind) else [part])])


NODES: st.SearchStrategy[Node] = st.recursive(
    CLAUSES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: _flat(AllOf, parts)),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: _flat(AnyOf, parts)),
    ),
    max_leaves=5,
)


def written(node: Node) -> str:
    if isinstance(node, Not):
        return f"NOT ({written(node.part)})"
    if isinstance(node, Comparison):
        value = "NULL" if node.value is None else _value(node.value)
        return f"{_name(node.left)} {node.op} {value}"
    return (" AND " if isinstance(node, AllOf) else " OR ").join(f"({written(part)})" for part in node.parts)


def _name(left: Identifier) -> str:
    name = f"{left.kind}.`{left.key}`"
    return name if left.of == "last" else f"{left.of}({name})"


def _value(value: object) -> str:
    if isinstance(value, list):
        return "(" + ", ".join(map(_value, value)) + ")"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)
