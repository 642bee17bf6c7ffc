import { useTable } from "@tanstack/react-table";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, useEffect, useMemo, useRef } from "react";
import { type Column, classOf, features, toDefinitions } from "../parts/Table.tsx";
import { address, go, setQuery } from "../route.ts";
import { strings } from "../strings.ts";
import type { Nested } from "./nest.ts";

const ROW = 30;
/** Rows from the end at which the next page is asked for. */
const AHEAD = 40;

interface Props {
  rows: Nested[];
  columns: Column<Nested>[];
  openId: string;
  query: URLSearchParams;
  /** By what the server has sorted them; empty for the newest first. */
  order: string;
  /** Undefined when there are no more. */
  loadMore: (() => void) | undefined;
}

/** Only the rows on screen exist in the document; two empty rows hold the place of the others. */
export function RunTable({ rows: data, columns, openId, query, order, loadMore }: Props) {
  const scroller = useRef<HTMLDivElement>(null);
  const definitions = useMemo(() => toDefinitions(columns), [columns]);
  const table = useTable({ features, columns: definitions, data, getRowId: ({ run }) => run.info.run_id });
  const rows = table.getRowModel().rows;
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW,
    getItemKey: (index) => rows[index]?.id ?? index,
    overscan: 12,
  });
  const items = virtual.getVirtualItems();
  const before = items[0]?.start ?? 0;
  const after = virtual.getTotalSize() - (items.at(-1)?.end ?? 0);

  const isNearEnd = (items.at(-1)?.index ?? 0) >= rows.length - AHEAD;
  useEffect(() => {
    if (isNearEnd) loadMore?.();
  }, [isNearEnd, loadMore]);

  return (
    <div className="scroll" ref={scroller}>
      <table
        aria-label={strings.runs}
        aria-rowcount={rows.length}
        data-testid="runs-table"
        style={{ minWidth: columns.reduce((sum, column) => sum + column.size, 0) }}
        onKeyDown={moveFocus}
      >
        <colgroup>
          {columns.map((column) => (
            <col key={column.id} style={{ width: column.size }} />
          ))}
        </colgroup>
        <thead>
          <tr>
            {table.getFlatHeaders().map((header, i) => (
              <Head key={header.id} column={columns[i]} order={order} />
            ))}
          </tr>
        </thead>
        <tbody>
          {before > 0 && <tr className="space" aria-hidden style={{ height: before }} />}
          {items.map((item) => {
            const row = rows[item.index];
            if (!row) return null;
            return (
              // The row is for the mouse; the keyboard uses the link in it.
              <tr
                key={row.id}
                data-testid="run-row"
                data-run-id={row.id}
                aria-rowindex={item.index + 1}
                aria-current={row.id === openId || undefined}
                onClick={() => go(address("runs", row.id, query))}
              >
                {row.getAllCells().map((cell, i) => (
                  <td key={cell.id} className={classOf(columns[i])}>
                    <table.FlexRender cell={cell} />
                  </td>
                ))}
              </tr>
            );
          })}
          {after > 0 && <tr className="space" aria-hidden style={{ height: after }} />}
        </tbody>
      </table>
    </div>
  );
}

/** A column's name; a click sorts by it, a second one the other way round, and a third one by time again. */
function Head({ column, order }: { column: Column<Nested> | undefined; order: string }) {
  if (!column?.order) {
    return (
      <th scope="col" title={column?.header}>
        {column?.header}
      </th>
    );
  }
  const [up, down] = [`${column.order} ASC`, `${column.order} DESC`];
  const sorted = order === up ? "ascending" : order === down ? "descending" : undefined;
  // The best of a metric may be the least or the greatest; of all else the least comes first.
  const next = column.isNumber ? { "": down, [down]: up } : { "": up, [up]: down };
  return (
    <th scope="col" className={classOf(column)} aria-sort={sorted}>
      <button
        type="button"
        className="sort"
        title={strings.sortBy(column.header)}
        data-testid="sort"
        data-column={column.id}
        onClick={() => setQuery({ order: next[sorted ? order : ""] ?? "" })}
      >
        {column.header}
        {sorted && (sorted === "ascending" ? " ↑" : " ↓")}
      </button>
    </th>
  );
}

/** Up and down go from link to link, as in a list. */
function moveFocus(event: KeyboardEvent): void {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const row = (event.target as HTMLElement).closest("tr");
  const next = event.key === "ArrowDown" ? row?.nextElementSibling : row?.previousElementSibling;
  const link = next?.querySelector("a");
  if (!link) return;
  event.preventDefault();
  link.focus();
}
