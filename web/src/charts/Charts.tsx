import { useEffect, useState } from "react";
import type { Run } from "../api/types.ts";
import { useCell } from "../lib/cell.ts";
import { type Group, group, isSystem } from "../lib/groups.ts";
import type { Axis } from "../lib/series.ts";
import { strings } from "../strings.ts";
import { Chart } from "./Chart.tsx";
import type { Feed } from "./feed.ts";

/** All curves of one run: those of the training, and folded away below them those of the machine. */
export function Charts({ run, feed }: { run: Run; feed: Feed }) {
  const [axis, setAxis] = useState<Axis>("step");
  const keys = useCell(feed.keys);
  const metrics = run.data.metrics;
  useEffect(() => feed.know(metrics ?? []), [feed, metrics]);

  const groups = group(keys);
  const machine = groups.filter((one) => isSystem(one.name));
  const training = groups.filter((one) => !isSystem(one.name));
  const grid = (some: Group[]) => (
    <div className="charts">
      {some.map((one) => (
        <Chart key={one.name} feed={feed} group={one} axis={axis} zero={run.info.start_time} />
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
            <fieldset className="switch" aria-label={strings.horizontal}>
              {(["step", "time"] as const).map((one) => (
                <label key={one}>
                  <input type="radio" name="axis" checked={axis === one} onChange={() => setAxis(one)} />
                  <span>{strings.axisShort[one]}</span>
                </label>
              ))}
            </fieldset>
          </>
        )}
      </header>
      {keys.length === 0 && <p className="empty">{strings.noMetrics}</p>}
      {grid(training)}
      {machine.length > 0 && (
        <details>
          <summary>{strings.machine(machine.length)}</summary>
          {grid(machine)}
        </details>
      )}
    </section>
  );
}
