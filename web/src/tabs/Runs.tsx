import type { Route } from "../route.ts";
import { CompareView } from "../runs/CompareView.tsx";
import { compared } from "../runs/choice.ts";
import { RunList } from "../runs/RunList.tsx";
import { RunView } from "../runs/RunView.tsx";

/** All runs; and beside them, or below where the window is narrow, the one that is open, or those that are compared. */
export function Runs({ route }: { route: Route }) {
  const together = compared(route.query);
  const isSplit = route.id !== "" || together.length > 1;
  return (
    <div className={isSplit ? "split" : "whole"}>
      <RunList route={route} isNarrow={isSplit} />
      {route.id && <RunView key={route.id} route={route} />}
      {!route.id && isSplit && <CompareView ids={together} query={route.query} />}
    </div>
  );
}
