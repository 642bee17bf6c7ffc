import assert from "node:assert/strict";
import { test } from "node:test";
import type { Run } from "../src/api/types.ts";
import { hasGap, merge } from "../src/runs/merge.ts";

const run = (start: number) => ({ info: { run_id: `r${start}`, start_time: start } }) as Run;
const page = (next: string, ...starts: number[]) => ({ runs: starts.map(run), next_page_token: next });
const starts = (runs: Run[]) => runs.map((one) => one.info.start_time);

test("new runs come on top and the older pages stay below", () => {
  assert.deepEqual(starts(merge([page("a", 4, 3), page("", 2, 1)], page("b", 5, 4))), [5, 4, 3, 2, 1]);
});

test("a run that left the newest page's range is gone", () => {
  assert.deepEqual(starts(merge([page("a", 4, 3), page("", 2)], page("b", 4, 2))), [4, 2]);
  assert.deepEqual(starts(merge([page("", 4, 3)], page("", 4))), [4]);
});

test("more new runs than one page leave a gap", () => {
  assert.ok(hasGap([page("a", 4, 3)], page("b", 9, 8)));
  assert.ok(!hasGap([page("a", 4, 3)], page("b", 5, 4)));
});
