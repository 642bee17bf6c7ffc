import { useEffect, useMemo, useState } from "react";
import type { Run } from "../api/types.ts";
import { useCell } from "../lib/cell.ts";
import { group, isSystem } from "../lib/groups.ts";
import type { Axis } from "../lib/series.ts";
import { strings } from "../strings.ts";
import { AxisSwitch } from "./AxisSwitch.tsx";
import { Chart } from "./Chart.tsx";
import type { Feed } from "./feed.ts";
import type { Line } from "./plot.ts";

/** All curves of one run: those of the training, and folded away below them those of the machine. */
export function Charts({ run, feed }: { run: Run; feed: Feed }) {
  const [axis, setAxis] = useState<Axis>("step");
  const keys = useCell(feed.keys);
  const { metrics } = run.data;
  useEffect(() => feed.know(metrics ?? []), [feed, metrics]);

  const zero = run.info.start_time;
  const charts = useMemo(
    () =>
      group(keys).map(({ name, keys: own }): [string, Line[]] => [
        name,
        own.map((key) => ({ feed, key, label: key, zero })),
      ]),
    [keys, feed, zero],
  );
  const machine = charts.filter(([name]) => isSystem(name));
  const grid = (some: [string, Line[]][]) => (
    <div className="charts">
      {some.map(([name, lines]) => (
        <Chart key={name} name={name} lines={lines} axis={axis} />
      ))}
    </div>
  );

  return (
    <section aria-labelledby="curves">
      <header className="section-head">
        <h2 id="curves">{strings.curves}</h2>
        {keys.length > 0 && (
          <>
            <span className="hint">{strings.zoomHint}</span>
            <AxisSwitch axis={axis} choose={setAxis} />
          </>
        )}
      </header>
      {keys.length === 0 && <p className="empty">{strings.noMetrics}</p>}
      {grid(charts.filter(([name]) => !isSystem(name)))}
      {machine.length > 0 && (
        <details>
          <summary>{strings.machine(machine.length)}</summary>
          {grid(machine)}
        </details>
      )}
    </section>
  );
}
