import type { FiringLine } from "../api/types.ts";
import { strings } from "../strings.ts";

const COLOURS = {
  waiting: "QUEUED",
  running: "RUNNING",
  done: "FINISHED",
  failed: "FAILED",
  stopped: "STOPPED",
  skipped: "STOPPED",
  again: "QUEUED",
} as const;

export function FiringStatus({ of }: { of: FiringLine["state"] }) {
  return (
    <span className="status" data-testid="status" data-status={COLOURS[of]}>
      {strings.firingState[of]}
    </span>
  );
}
