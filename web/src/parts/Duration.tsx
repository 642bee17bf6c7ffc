import { duration } from "../lib/format.ts";
import { useNow } from "./useNow.ts";

/** How long it took, or for how long it has been going on. */
export function Duration({ from, to }: { from: number; to: number | null | undefined }) {
  const now = useNow(to ? 0 : 1_000);
  return <span>{duration((to || now) - from)}</span>;
}
