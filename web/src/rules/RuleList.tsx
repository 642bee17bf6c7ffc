import { useRules } from "../api/queries.ts";
import type { Rule } from "../api/types.ts";
import { moment } from "../lib/format.ts";
import { type Column, Table } from "../parts/Table.tsx";
import { address } from "../route.ts";
import { strings } from "../strings.ts";
import { happened, linkTo } from "./FiringList.tsx";
import { FiringStatus } from "./FiringStatus.tsx";

const words = strings.rule;

function waits({ rule: { when } }: Rule): string {
  return Object.entries(when)
    .map(([name, value]) => `${name} = ${String(value)}`)
    .join(", ");
}

/** The first word of a step is its action. */
function does({ rule: { then } }: Rule): string {
  return then.map((each) => Object.keys(each)[0]).join(" → ");
}

function fired({ counts }: Rule): string {
  return Object.entries(counts)
    .map(([state, n]) => `${n} ${state}`)
    .join(", ");
}

function last({ last: firing }: Rule) {
  return (
    firing && (
      <span title={happened(firing)}>
        <FiringStatus of={firing.state} /> {linkTo(firing)}
      </span>
    )
  );
}

const COLUMNS: Column<Rule>[] = [
  { id: "name", header: words.name, size: 170, cell: ({ rule }) => <a href={address("rules", rule.name)}>{rule.name}</a> },
  { id: "state", header: words.state, size: 80, cell: ({ state }) => strings.ruleState[state] },
  { id: "when", header: words.when, size: 260, wraps: true, cell: waits },
  { id: "then", header: words.does, size: 220, wraps: true, cell: does },
  { id: "next", header: words.next, size: 180, cell: ({ upcoming: [next] }) => next && moment(next) },
  { id: "fired", header: words.fired, size: 110, cell: fired },
  { id: "last", header: words.last, size: 150, cell: last },
];

export function RuleList() {
  const rules = useRules();
  return (
    <Table
      label={strings.tabs.rules}
      query={rules}
      columns={COLUMNS}
      rowId={({ rule }) => rule.name}
      empty={strings.noRules}
    />
  );
}
