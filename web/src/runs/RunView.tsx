import { useRun } from "../api/queries.ts";
import { Charts } from "../charts/Charts.tsx";
import { useFeed } from "../charts/useFeed.ts";
import { ErrorLine } from "../parts/ErrorLine.tsx";
import { address, type Route } from "../route.ts";
import { strings } from "../strings.ts";
import { Artifacts } from "./Artifacts.tsx";
import { Lineage } from "./Lineage.tsx";
import { Pairs } from "./Pairs.tsx";
import { RunHeader } from "./RunHeader.tsx";

/** One run, whole: what it is, its curves, where it comes from, what it was told and what it kept. */
export function RunView({ route: { id, query } }: { route: Route }) {
  const { data: run, error } = useRun(id);
  const feed = useFeed(id);
  return (
    <article className="run" data-testid="run-view" data-run-id={id}>
      <ErrorLine message={error?.message} />
      {!run && !error && <p className="empty">{strings.loading}</p>}
      {run && (
        <>
          <RunHeader run={run} closeTo={address("runs", "", query)} />
          {feed && <Charts run={run} feed={feed} />}
          <Lineage run={run} />
          <div className="columns">
            <Pairs title={strings.params} pairs={run.data.params ?? []} />
            <Pairs title={strings.tags} pairs={run.data.tags ?? []} />
          </div>
          <Artifacts run={run} />
        </>
      )}
    </article>
  );
}
