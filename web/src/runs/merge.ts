import type { RunPage } from "../api/queries.ts";
import type { Run } from "../api/types.ts";

/**
 * The pages that were read once, with the newest page read again on top of them.
 * A row that the newest page reaches past and does not hold any more has been deleted or stopped matching.
 */
export function merge(pages: RunPage[], newest: RunPage | undefined): Run[] {
  const old = pages.flatMap((page) => page.runs ?? []);
  if (!newest) return old;
  const top = newest.runs ?? [];
  const last = top.at(-1);
  if (!newest.next_page_token || !last) return top;
  const known = new Set(top.map((run) => run.info.run_id));
  const below = old.filter(
    (run) => !known.has(run.info.run_id) && run.info.start_time <= last.info.start_time,
  );
  return [...top, ...below];
}

/** Whether runs may lie between the newest page and the pages below it: then all must be read again. */
export function hasGap(pages: RunPage[], newest: RunPage | undefined): boolean {
  const first = pages[0]?.runs?.[0];
  const last = newest?.runs?.at(-1);
  if (!first || !last || !newest?.next_page_token) return false;
  return last.info.start_time > first.info.start_time;
}
