import type { Route } from "../route.ts";
import { RunList } from "../runs/RunList.tsx";
import { RunView } from "../runs/RunView.tsx";

/** All runs; and beside them, or below where the window is narrow, the one that is open. */
export function Runs({ route }: { route: Route }) {
  return (
    <div className={route.id ? "split" : "whole"}>
      <RunList route={route} />
      {route.id && <RunView key={route.id} route={route} />}
    </div>
  );
}
