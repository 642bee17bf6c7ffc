import { useMemo, useState } from "react";
import { useRuns } from "../api/queries.ts";
import type { Run } from "../api/types.ts";
import { AxisSwitch } from "../charts/AxisSwitch.tsx";
import { Chart } from "../charts/Chart.tsx";
import type { Feed } from "../charts/feed.ts";
import type { Line } from "../charts/plot.ts";
import { useFeeds } from "../charts/useFeed.ts";
import { figure } from "../lib/format.ts";
import { isSystem } from "../lib/groups.ts";
import type { Axis } from "../lib/series.ts";
import { ErrorLine } from "../parts/ErrorLine.tsx";
import { address, setQuery } from "../route.ts";
import { strings } from "../strings.ts";
import { type Compared, lay } from "./compare.ts";

/** Several runs side by side: their curves in the same charts, and what they differ in. */
export function CompareView({ ids, query }: { ids: string[]; query: URLSearchParams }) {
  const { runs, error } = useRuns(ids);
  const feeds = useFeeds(ids, runs.some((run) => run.info.status === "RUNNING"));
  const [axis, setAxis] = useState<Axis>("step");
  const charts = useMemo(() => chartsOf(runs, feeds), [runs, feeds]);
  return (
    <article className="run" data-testid="compare">
      <header className="row">
        <h1>{strings.comparing(ids.length)}</h1>
        <AxisSwitch axis={axis} choose={setAxis} />
        <button type="button" className="quiet" onClick={() => setQuery({ compare: "" })}>
          {strings.compareNone}
        </button>
      </header>
      <ErrorLine message={error?.message} />
      <div className="charts">
        {charts.map(([name, lines]) => (
          <Chart key={name} name={name} lines={lines} axis={axis} />
        ))}
      </div>
      <Differences title={strings.params} runs={runs} query={query} rows={lay(runs, paramsOf)} />
      <Differences title={strings.metrics} runs={runs} query={query} rows={lay(runs, metricsOf)} />
    </article>
  );
}

interface DifferencesProps {
  title: string;
  runs: Run[];
  query: URLSearchParams;
  rows: Compared[];
}

function Differences({ title, runs, query, rows }: DifferencesProps) {
  if (rows.length === 0) return null;
  return (
    <section aria-label={title}>
      <h2>{title}</h2>
      <div className="scroll">
        <table className="plain compared">
          <thead>
            <tr>
              <th scope="col" />
              {runs.map(({ info }) => (
                <th key={info.run_id} scope="col">
                  <a href={address("runs", info.run_id, query)}>{info.run_name || info.run_id.slice(0, 8)}</a>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map(({ key, values, isSame }) => (
              <tr key={key} className={isSame ? "same" : undefined}>
                <th scope="row">{key}</th>
                {values.map((value, i) => (
                  <td key={runs[i]?.info.run_id}>{value ?? "–"}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function paramsOf(run: Run): [string, string][] {
  return (run.data.params ?? []).map(({ key, value }) => [key, value]);
}

function metricsOf(run: Run): [string, string][] {
  return (run.data.metrics ?? []).map(({ key, value }) => [key, figure(value)]);
}

/** A chart for each metric that any of them has, with a line for each run; the machine's are left to each run's own page. */
function chartsOf(runs: Run[], feeds: Feed[]): [string, Line[]][] {
  const charts = new Map<string, Line[]>();
  for (const { info, data } of runs) {
    const feed = feeds.find((one) => one.runId === info.run_id);
    if (!feed) continue;
    feed.know(data.metrics ?? []);
    for (const { key } of data.metrics ?? []) {
      if (isSystem(key)) continue;
      const line = { feed, key, label: info.run_name || info.run_id.slice(0, 8), zero: info.start_time };
      charts.set(key, [...(charts.get(key) ?? []), line]);
    }
  }
  return [...charts].toSorted(([a], [b]) => a.localeCompare(b));
}
