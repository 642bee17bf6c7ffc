import assert from "node:assert/strict";
import { test } from "node:test";
import type { LineageEdge, LineageNode } from "../src/api/types.ts";
import { HEIGHT, layout } from "../src/lineage/layout.ts";

const node = (key: string) => ({ key, kind: "run", id: key, title: key }) as LineageNode;
const edges = (...pairs: string[]): LineageEdge[] =>
  pairs.map((pair) => ({ source: pair[0] ?? "", target: pair[1] ?? "", verb: "made" }));
const place = (keys: string, ...pairs: string[]) =>
  new Map(layout([...keys].map(node), edges(...pairs)).placed.map((one) => [one.node.key, one]));

test("what was made stands to the right of all that it was made of", () => {
  const at = place("abcd", "ab", "bc", "ac", "cd");
  assert.deepEqual(["a", "b", "c", "d"].map((key) => at.get(key)?.layer), [0, 1, 2, 3]);
});

test("what nothing leads to stands just before what it is for", () => {
  const at = place("abcx", "ab", "bc", "xc");
  assert.equal(at.get("x")?.layer, 1);
});

test("a circle ends", () => {
  const at = place("abc", "ab", "bc", "ca", "aa");
  assert.equal(new Set([...at.values()].map(({ layer }) => layer)).size, 3);
});

test("boxes do not lie on each other, and edges that need not cross do not", () => {
  const at = place("abcdxy", "ax", "by", "cx", "dy");
  const all = [...at.values()];
  for (const one of all)
    for (const other of all)
      assert.ok(one === other || one.layer !== other.layer || Math.abs(one.y - other.y) >= HEIGHT);
  const below = (one: string, other: string) => (at.get(one)?.y ?? 0) > (at.get(other)?.y ?? 0);
  assert.equal(below("a", "b"), below("x", "y"));
  assert.equal(below("c", "d"), below("x", "y"));
});

test("edges to what was left out are none, and nothing is an empty picture", () => {
  assert.equal(place("a", "ab", "za").get("a")?.layer, 0);
  assert.equal(layout([], []).placed.length, 0);
});
