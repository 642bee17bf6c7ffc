import { ago, moment } from "../lib/format.ts";
import { useNow } from "./useNow.ts";

/** "5m ago", with the full date on hover. */
export function Time({ at }: { at: number }) {
  const now = useNow(5_000);
  return (
    <time dateTime={new Date(at).toISOString()} title={moment(at)}>
      {ago(at, Math.max(now, at))}
    </time>
  );
}
