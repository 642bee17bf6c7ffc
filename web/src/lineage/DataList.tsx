import { useData } from "../api/queries.ts";
import type { DataSet } from "../api/types.ts";
import { type Column, Table } from "../parts/Table.tsx";
import { Time } from "../parts/Time.tsx";
import { address } from "../route.ts";
import { strings } from "../strings.ts";

const words = strings.dataOf;

const COLUMNS: Column<DataSet>[] = [
  {
    id: "name",
    header: words.name,
    size: 220,
    cell: (one) => <a href={address("lineage", `data:${one.digest}`)}>{one.names.join(", ")}</a>,
  },
  { id: "digest", header: words.digest, size: 260, cell: (one) => <code>{one.digest}</code> },
  { id: "runs", header: words.runs, size: 70, isNumber: true, cell: (one) => one.runs },
  { id: "first", header: words.first, size: 110, cell: (one) => <Time at={one.first} /> },
  { id: "last", header: words.last, size: 110, cell: (one) => <Time at={one.last} /> },
  { id: "source", header: strings.source, size: 300, wraps: true, cell: (one) => one.source },
];

/** All data sets, by their content: where a lineage begins. */
export function DataList() {
  const data = useData();
  return (
    <Table label={strings.datasets} query={data} columns={COLUMNS} rowId={(one) => one.digest} empty={strings.noData} />
  );
}
