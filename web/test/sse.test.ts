import assert from "node:assert/strict";
import { test } from "node:test";
import { events } from "../src/api/sse.ts";

async function read(...chunks: string[]): Promise<string[]> {
  const stream = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(new TextEncoder().encode(chunk));
      controller.close();
    },
  });
  const found: string[] = [];
  for await (const event of events(stream)) found.push(event);
  return found;
}

test("an event may come in pieces, and several in one piece", async () => {
  assert.deepEqual(await read("data: on", "e\n", "\ndata:two\n\ndata: three\r\n\r\n"), [
    "one",
    "two",
    "three",
  ]);
});

test("comments and half an event say nothing", async () => {
  assert.deepEqual(await read(": beat\n\nevent: x\n\ndata: half"), []);
});
