import { useEffect, useRef, useState } from "react";
import { useCell } from "../lib/cell.ts";
import { figure } from "../lib/format.ts";
import type { Group } from "../lib/groups.ts";
import type { Axis } from "../lib/series.ts";
import { ErrorLine } from "../parts/ErrorLine.tsx";
import { strings } from "../strings.ts";
import type { Feed } from "./feed.ts";
import { palette } from "./palette.ts";
import { plot } from "./plot.ts";
import { useOnScreen } from "./useOnScreen.ts";

interface Props {
  feed: Feed;
  group: Group;
  axis: Axis;
  zero: number;
}

/** Learning curves that belong together. It draws by itself, outside of React; React only places it. */
export function Chart({ feed, group, axis, zero }: Props) {
  const frame = useRef<HTMLElement>(null);
  const canvas = useRef<HTMLDivElement>(null);
  const latest = useRef<HTMLSpanElement>(null);
  const [log, setLog] = useState(false);
  const [error, setError] = useState("");
  const [odd, setOdd] = useState("");
  const seen = useOnScreen(frame);
  const colours = useCell(palette);
  const keys = group.keys.join("\n");

  useEffect(() => {
    const element = canvas.current;
    if (!seen || !element) return;
    const names = keys.split("\n");
    return plot(element, feed, {
      keys: names,
      axis,
      log,
      zero,
      palette: colours,
      drawn: (points) => {
        frame.current?.setAttribute("data-points", String(points));
        const values = names.map((key) => figure(feed.last(key)));
        if (latest.current) latest.current.textContent = values.join(" · ");
        setError(names.map((key) => feed.error(key)).find(Boolean) ?? "");
        setOdd(names.map((key) => oddities(feed.shown(key)?.odd() ?? [])).find(Boolean) ?? "");
      },
    });
  }, [seen, keys, axis, log, zero, feed, colours]);

  return (
    <figure className="chart" data-testid="chart" data-key={group.name} data-points="0" ref={frame}>
      <figcaption>
        <h3>{group.name}</h3>
        <span className="latest" ref={latest} />
        <label className="check">
          <input type="checkbox" checked={log} onChange={(event) => setLog(event.target.checked)} />
          {strings.logScale}
        </label>
      </figcaption>
      <ErrorLine message={error} />
      {odd && (
        <p className="hint" data-testid="odd">
          {odd}
        </p>
      )}
      <div className="plot" ref={canvas} role="img" aria-label={strings.chartOf(group.keys)} />
    </figure>
  );
}

const NAMED = 3;

/** What a curve cannot show: the points that are no numbers. */
function oddities(points: { step: number; value: string }[]): string {
  if (points.length === 0) return "";
  const named = points.slice(0, NAMED).map(({ step, value }) => strings.valueAt(value, step));
  return strings.notDrawn(named, points.length - named.length);
}
