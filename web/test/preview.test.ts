import assert from "node:assert/strict";
import { test } from "node:test";
import { imageType, preview, separated } from "../src/lib/preview.ts";

const of = (path: string, text: string, isWhole = true) => preview(path, new TextEncoder().encode(text), isWhole);

test("separated values, with quotes, line ends in them, and empty ones", () => {
  assert.deepEqual(separated('a,b\r\n"x, ""y""\nz",\n', ",", true), [
    ["a", "b"],
    ['x, "y"\nz', ""],
  ]);
  assert.deepEqual(separated("a\tb\n1\t2", "\t", true), [
    ["a", "b"],
    ["1", "2"],
  ]);
});

test("a line that was cut off is no row", () => {
  assert.deepEqual(separated("a,b\n1,2\n3,", ",", false), [
    ["a", "b"],
    ["1", "2"],
  ]);
});

test("a table of mlflow is a table, other JSON is laid out, and half of one is text", () => {
  assert.deepEqual(of("t.json", '{"columns":["x"],"data":[[1],["a"],[null]]}'), {
    kind: "table",
    head: ["x"],
    rows: [["1"], ["a"], ["null"]],
  });
  assert.deepEqual(of("c.json", '{"a":[1]}'), { kind: "text", text: '{\n  "a": [\n    1\n  ]\n}' });
  assert.deepEqual(of("c.json", '{"a":', false), { kind: "text", text: '{"a":' });
  assert.deepEqual(of("c.json", "null"), { kind: "text", text: "null" });
});

test("what holds a zero byte is no text", () => {
  assert.deepEqual(of("model.pkl", "ab\0c"), { kind: "none" });
  assert.deepEqual(of("MLmodel", "flavors: {}"), { kind: "text", text: "flavors: {}" });
});

test("an image is known by its name", () => {
  assert.equal(imageType("plots/a.PNG"), "image/png");
  assert.equal(imageType("png"), undefined);
});
