import { useRun } from "../api/queries.ts";
import { Charts } from "../charts/Charts.tsx";
import { useFeed } from "../charts/useFeed.ts";
import { LineageSection } from "../lineage/LineageSection.tsx";
import { ErrorLine } from "../parts/ErrorLine.tsx";
import type { Route } from "../route.ts";
import { strings } from "../strings.ts";
import { Artifacts } from "./Artifacts.tsx";
import { Children } from "./Children.tsx";
import { Datasets } from "./Datasets.tsx";
import { MetricTable } from "./MetricTable.tsx";
import { Pairs, Tags } from "./Pairs.tsx";
import { RunHeader } from "./RunHeader.tsx";
import { RunModels } from "./RunModels.tsx";

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
          <RunHeader run={run} query={query} />
          {feed && <Charts run={run} feed={feed} />}
          <MetricTable runId={id} />
          <div className="columns">
            <Pairs title={strings.params} pairs={run.data.params ?? []} />
            <Tags tags={run.data.tags ?? []} />
          </div>
          <Children run={run} query={query} />
          <Datasets run={run} />
          <RunModels run={run} />
          <LineageSection of={`run:${id}`} />
          <Artifacts place={{ run: id }} empty={strings.noArtifacts} />
        </>
      )}
    </article>
  );
}
