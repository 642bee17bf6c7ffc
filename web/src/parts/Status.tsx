import type { JobState, RunStatus } from "../api/types.ts";
import { strings } from "../strings.ts";

/** A colour and a word: a colour alone says nothing to some readers. */
export function Status({ of }: { of: RunStatus | JobState | "STOPPED" }) {
  return (
    <span className="status" data-testid="status" data-status={of}>
      {strings.status[of] ?? of}
    </span>
  );
}
