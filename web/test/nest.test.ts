import assert from "node:assert/strict";
import { test } from "node:test";
import type { Run } from "../src/api/types.ts";
import { nest } from "../src/runs/nest.ts";

const run = (id: string, parent = "") =>
  ({ info: { run_id: id }, data: { tags: parent ? [{ key: "mlflow.parentRunId", value: parent }] : [] } }) as Run;
const rows = (runs: Run[], ...closed: string[]) =>
  nest(runs, new Set(closed)).map((row) => [row.run.info.run_id, row.depth, row.children]);

test("what was started inside of a run lies below it, in the order of the list", () => {
  assert.deepEqual(rows([run("c", "a"), run("b", "a"), run("d", "c"), run("x"), run("a")]), [
    ["x", 0, 0],
    ["a", 0, 2],
    ["c", 1, 1],
    ["d", 2, 0],
    ["b", 1, 0],
  ]);
});

test("a run whose parent is not there stays where it is", () => {
  assert.deepEqual(rows([run("c", "gone"), run("b")]), [
    ["c", 0, 0],
    ["b", 0, 0],
  ]);
});

test("the children of a closed run are hidden, however deep", () => {
  assert.deepEqual(rows([run("a"), run("b", "a"), run("c", "b")], "a"), [["a", 0, 1]]);
});

test("runs that are each other's parents are shown all the same", () => {
  assert.deepEqual(
    rows([run("a", "b"), run("b", "a"), run("c", "c")]).map(([id]) => id),
    ["a", "b", "c"],
  );
});
