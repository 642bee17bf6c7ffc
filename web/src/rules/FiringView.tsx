import { useFiringLines } from "../api/queries.ts";
import type { FiringLine } from "../api/types.ts";
import { type Column, Table } from "../parts/Table.tsx";
import { Time } from "../parts/Time.tsx";
import { strings } from "../strings.ts";
import { FiringStatus } from "./FiringStatus.tsx";

const words = strings.rule;

function step({ phase, step: number = 0 }: FiringLine): string {
  return phase === "otherwise" ? strings.otherwise(number + 1) : `${number + 1}`;
}

const COLUMNS: Column<FiringLine>[] = [
  { id: "time", header: words.created, size: 100, cell: ({ time }) => <Time at={time} /> },
  { id: "step", header: words.step, size: 100, cell: step },
  { id: "tries", header: words.tries, size: 60, isNumber: true, cell: ({ tries = 0 }) => tries + 1 },
  { id: "state", header: words.state, size: 110, cell: ({ state }) => <FiringStatus of={state} /> },
  { id: "note", header: words.note, size: 600, wraps: true, cell: ({ note }) => note },
];

/** What happened at each step of one firing. */
export function FiringView({ id }: { id: string }) {
  const lines = useFiringLines(id);
  return (
    <section aria-label={strings.firing(id.slice(0, 8))}>
      <h2>{strings.firing(id.slice(0, 8))}</h2>
      <Table
        label={strings.firing(id.slice(0, 8))}
        query={lines}
        columns={COLUMNS}
        rowId={({ time, phase, step: number, tries, state }) => [time, phase, number, tries, state].join()}
        empty={strings.noFirings}
      />
    </section>
  );
}
