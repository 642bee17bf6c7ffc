import type { RunPage } from "../api/queries.ts";
import type { Run } from "../api/types.ts";

/**
 * The pages that were read once, with the first page read again on top of them.
 * By time, a row that the first page reaches past and does not hold any more has been deleted or stopped matching. In any
 * other order values change places: the first page is taken as it is, and `hasGap` says when the others must be read again.
 */
export function merge(pages: RunPage[], first: RunPage | undefined, byTime: boolean): Run[] {
  const old = pages.flatMap((page) => page.runs ?? []);
  if (!first) return old;
  const top = first.runs ?? [];
  const last = top.at(-1);
  if (!first.next_page_token || !last) return top;
  const known = new Set(top.map((run) => run.info.run_id));
  const rest = byTime
    ? old.filter((run) => run.info.start_time <= last.info.start_time)
    : pages.slice(1).flatMap((page) => page.runs ?? []);
  return [...top, ...rest.filter((run) => !known.has(run.info.run_id))];
}

/** Whether runs may lie between the first page and the pages below it: then all must be read again. */
export function hasGap(pages: RunPage[], first: RunPage | undefined, byTime: boolean): boolean {
  if (!first?.next_page_token) return false;
  if (!byTime) {
    const before = new Set(pages[0]?.runs?.map((run) => run.info.run_id));
    return pages.length > 1 && (first.runs ?? []).some((run) => !before.has(run.info.run_id));
  }
  const [top, last] = [pages[0]?.runs?.[0], first.runs?.at(-1)];
  return Boolean(top && last && last.info.start_time > top.info.start_time);
}
