import assert from "node:assert/strict";
import { test } from "node:test";
import { lay } from "../src/runs/compare.ts";

test("what runs differ in comes first, and what one of them lacks is a difference", () => {
  const runs = [
    { a: "1", b: "x", c: "2" },
    { a: "1", c: "3" },
  ];
  assert.deepEqual(
    lay(runs, (run) => Object.entries(run)),
    [
      { key: "b", values: ["x", undefined], isSame: false },
      { key: "c", values: ["2", "3"], isSame: false },
      { key: "a", values: ["1", "1"], isSame: true },
    ],
  );
});
