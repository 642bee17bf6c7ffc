import type { UseQueryResult } from "@tanstack/react-query";
import { columnSizingFeature, tableFeatures, useTable } from "@tanstack/react-table";
import { type ReactNode, useMemo } from "react";
import { strings } from "../strings.ts";
import { ErrorLine } from "./ErrorLine.tsx";

export interface Column<Row> {
  id: string;
  header: string;
  /** Pixels; the table shares out what is left over. */
  size: number;
  isNumber?: boolean;
  /** Sentences may take several lines; all else keeps to one. */
  wraps?: boolean;
  /** What the server sorts by for this column; none if it cannot. */
  order?: string;
  cell: (row: Row) => ReactNode;
}

interface Props<Row> {
  label: string;
  query: UseQueryResult<Row[]>;
  columns: Column<Row>[];
  rowId: (row: Row) => string;
  /** Said when there are no rows. */
  empty: string;
}

export const features = tableFeatures({ columnSizingFeature });
const NOTHING: never[] = [];

/** Our columns as TanStack Table's. */
export function toDefinitions<Row>(columns: Column<Row>[]) {
  return columns.map(({ id, header, size, cell }) => ({
    id,
    header,
    size,
    cell: (context: { row: { original: Row } }) => cell(context.row.original),
  }));
}

export function classOf(column: { isNumber?: boolean; wraps?: boolean } | undefined): string | undefined {
  if (column?.isNumber) return "number";
  return column?.wraps ? "wraps" : undefined;
}

/** A plain table of what one query answers. For thousands of rows see runs/RunTable.tsx. */
export function Table<Row extends object>({ label, query, columns, rowId, empty }: Props<Row>) {
  const definitions = useMemo(() => toDefinitions(columns), [columns]);
  const data = query.data ?? NOTHING;
  const table = useTable({ features, columns: definitions, data, getRowId: rowId });
  if (query.isPending) return <p className="empty">{strings.loading}</p>;
  return (
    <div className="scroll">
      <ErrorLine message={query.error?.message} />
      {data.length === 0 && !query.error && <p className="empty">{empty}</p>}
      {data.length > 0 && (
        <table aria-label={label}>
          <colgroup>
            {columns.map((column) => (
              <col key={column.id} style={{ width: column.size }} />
            ))}
          </colgroup>
          <thead>
            <tr>
              {table.getFlatHeaders().map((header, i) => (
                <th key={header.id} scope="col" className={classOf(columns[i])}>
                  <table.FlexRender header={header} />
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {table.getRowModel().rows.map((row) => (
              <tr key={row.id}>
                {row.getAllCells().map((cell, i) => (
                  <td key={cell.id} className={classOf(columns[i])}>
                    <table.FlexRender cell={cell} />
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </div>
  );
}
