import { useFirings } from "../api/queries.ts";
import type { Firing } from "../api/types.ts";
import { Duration } from "../parts/Duration.tsx";
import { type Column, Table } from "../parts/Table.tsx";
import { Time } from "../parts/Time.tsx";
import { address } from "../route.ts";
import { strings } from "../strings.ts";
import { FiringStatus } from "./FiringStatus.tsx";

const words = strings.rule;

export function linkTo(firing: Firing) {
  const query = new URLSearchParams({ firing: firing.id });
  return <a href={address("rules", firing.rule, query)}>{firing.id.slice(0, 8)}</a>;
}

/** "dataset digits": the kind of event, and the name that it has, if any. */
export function happened({ event: { kind, subject } }: Firing): string {
  return typeof subject.name === "string" ? `${kind} ${subject.name}` : kind;
}

const COLUMNS: Column<Firing>[] = [
  { id: "id", header: strings.firings, size: 90, cell: linkTo },
  { id: "rule", header: words.name, size: 180, cell: ({ rule }) => <a href={address("rules", rule)}>{rule}</a> },
  { id: "state", header: words.state, size: 100, cell: ({ state }) => <FiringStatus of={state} /> },
  { id: "event", header: words.event, size: 200, cell: happened },
  { id: "created", header: words.created, size: 100, cell: ({ created }) => <Time at={created} /> },
  {
    id: "duration",
    header: words.duration,
    size: 80,
    cell: ({ started, ended }) => started > 0 && <Duration from={started} to={ended || null} />,
  },
  { id: "note", header: words.note, size: 420, wraps: true, cell: ({ note }) => note },
];

/** Those of one rule, or of all. */
export function FiringList({ rule }: { rule: string }) {
  const firings = useFirings(rule);
  return (
    <Table
      label={strings.firings}
      query={firings}
      columns={COLUMNS}
      rowId={(firing) => firing.id}
      empty={strings.noFirings}
    />
  );
}
