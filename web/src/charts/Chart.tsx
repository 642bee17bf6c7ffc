import { useEffect, useRef, useState } from "react";
import { useCell } from "../lib/cell.ts";
import { figure } from "../lib/format.ts";
import type { Axis } from "../lib/series.ts";
import { ErrorLine } from "../parts/ErrorLine.tsx";
import { strings } from "../strings.ts";
import { palette } from "./palette.ts";
import { type Line, plot } from "./plot.ts";
import { useOnScreen } from "./useOnScreen.ts";

interface Props {
  name: string;
  lines: readonly Line[];
  axis: Axis;
}

/** Learning curves that belong together. It draws by itself, outside of React; React only places it. */
export function Chart({ name, lines: given, axis }: Props) {
  const lines = useSame(given);
  const frame = useRef<HTMLElement>(null);
  const canvas = useRef<HTMLDivElement>(null);
  const latest = useRef<HTMLSpanElement>(null);
  const [log, setLog] = useState(false);
  const [error, setError] = useState("");
  const [odd, setOdd] = useState("");
  const seen = useOnScreen(frame);
  const colours = useCell(palette);

  useEffect(() => {
    const element = canvas.current;
    if (!seen || !element) return;
    return plot(element, lines, {
      axis,
      log,
      palette: colours,
      drawn: (points) => {
        frame.current?.setAttribute("data-points", String(points));
        const values = lines.map(({ feed, key }) => figure(feed.last(key)));
        if (latest.current) latest.current.textContent = values.join(" · ");
        setError(lines.map(({ feed, key }) => feed.error(key)).find(Boolean) ?? "");
        setOdd(lines.map(({ feed, key }) => oddities(feed.shown(key)?.odd() ?? [])).find(Boolean) ?? "");
      },
    });
  }, [seen, lines, axis, log, colours]);

  return (
    <figure className="chart" data-testid="chart" data-key={name} data-points="0" ref={frame}>
      <figcaption>
        <h3>{name}</h3>
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
      <div className="plot" ref={canvas} role="img" aria-label={strings.chartOf(lines.map((line) => line.label))} />
    </figure>
  );
}

/** The same array for the same lines: a chart that is made anew loses its zoom. */
function useSame(given: readonly Line[]): readonly Line[] {
  const [lines, setLines] = useState(given);
  const isSame =
    lines.length === given.length &&
    lines.every((one, i) => one.feed === given[i]?.feed && one.key === given[i]?.key && one.zero === given[i]?.zero);
  if (!isSame) setLines(given);
  return isSame ? lines : given;
}

const NAMED = 3;

/** What a curve cannot show: the points that are no numbers. */
function oddities(points: { step: number; value: string }[]): string {
  if (points.length === 0) return "";
  const named = points.slice(0, NAMED).map(({ step, value }) => strings.valueAt(value, step));
  return strings.notDrawn(named, points.length - named.length);
}
