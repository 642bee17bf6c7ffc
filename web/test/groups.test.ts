import assert from "node:assert/strict";
import { test } from "node:test";
import { group } from "../src/lib/groups.ts";

test("training and validation share a chart, the plain curve first", () => {
  assert.deepEqual(group(["val_loss", "loss", "lr"]), [
    { name: "loss", keys: ["loss", "val_loss"] },
    { name: "lr", keys: ["lr"] },
  ]);
  assert.deepEqual(group(["eval/acc", "train/acc"]), [{ name: "acc", keys: ["train/acc", "eval/acc"] }]);
});

test("a metric without a partner keeps its whole name", () => {
  assert.deepEqual(group(["val_loss"]), [{ name: "val_loss", keys: ["val_loss"] }]);
});

test("the machine's metrics come last", () => {
  assert.deepEqual(
    group(["system/cpu", "zeta"]).map((one) => one.name),
    ["zeta", "system/cpu"],
  );
});
