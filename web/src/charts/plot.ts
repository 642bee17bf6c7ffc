import uPlot from "uplot";
import { type Axis, align, type Columns, PER_SERIES, Series } from "../lib/series.ts";
import type { Feed } from "./feed.ts";
import { options } from "./options.ts";
import type { Palette } from "./palette.ts";

/** One curve of a chart: a metric of a run. */
export interface Line {
  feed: Feed;
  key: string;
  label: string;
  /** Where the time axis begins, in milliseconds. */
  zero: number;
}

export interface PlotWishes {
  axis: Axis;
  log: boolean;
  palette: Palette;
  /** Called with the number of points after they have been drawn. */
  drawn: (points: number) => void;
}

/** One uPlot in `element`, drawn anew whenever a feed says that something changed. Returns the undoing. */
export function plot(element: HTMLElement, lines: readonly Line[], wishes: PlotWishes): () => void {
  // A zoomed chart keeps its window while points arrive; a double click gives it all of them again.
  let zoomed = false;
  let points = 0;
  const feeds = new Set(lines.map((line) => line.feed));
  for (const { feed, key } of lines) feed.want(key, element.clientWidth || 400);

  function columns(): Columns {
    const series = lines.map(({ feed, key }) => feed.shown(key) ?? new Series());
    const zeros = lines.map((line) => line.zero);
    const data = align(series, wishes.axis, zeros);
    if (wishes.log) hideWhatHasNoLogarithm(data);
    points = count(data);
    return data;
  }

  const chart = new uPlot(
    options({
      ...wishes,
      labels: lines.map((line) => line.label),
      width: element.clientWidth || 400,
      rewinds: () => [...feeds].flatMap((feed) => feed.rewinds),
      drawn: () => wishes.drawn(points),
      zoomed: (from, to) => {
        zoomed = true;
        zoomInto(from, to);
      },
    }),
    columns() as uPlot.AlignedData,
    element,
  );

  /** The window's edges are steps or, on the time axis, seconds; the server is asked for steps. */
  function zoomInto(from: number, to: number): void {
    for (const { feed, key, zero } of lines) {
      const times = [from, to].map((x) => zero + x * 1000) as [number, number];
      const span =
        wishes.axis === "step"
          ? { start: Math.floor(from), end: Math.ceil(to) }
          : feed.series(key)?.stepsBetween(...times);
      if (span) feed.zoom(key, span);
    }
  }

  function redraw(): void {
    chart.setData(columns() as uPlot.AlignedData, !zoomed);
    // Without a new x range uPlot takes the data but draws nothing by itself.
    if (zoomed) chart.redraw();
  }

  const unzoom = () => {
    zoomed = false;
    for (const { feed, key } of lines) feed.unzoom(key);
  };
  chart.over.addEventListener("dblclick", unzoom);
  const resize = new ResizeObserver(() => {
    if (element.clientWidth) chart.setSize({ width: element.clientWidth, height: chart.height });
  });
  resize.observe(element);
  const deaf = [...feeds].map((feed) => feed.listen(redraw));

  return () => {
    for (const stop of deaf) stop();
    unzoom();
    resize.disconnect();
    chart.destroy();
  };
}

function hideWhatHasNoLogarithm(data: Columns): void {
  for (const column of data.slice(1)) {
    for (const [i, y] of column.entries()) if (typeof y === "number" && y <= 0) column[i] = null as never;
  }
}

/** The points of the curves themselves, not those of their bounds. */
function count(data: Columns): number {
  let points = 0;
  for (const [i, column] of data.slice(1).entries()) {
    if (i % PER_SERIES === 0) for (const y of column) if (typeof y === "number") points++;
  }
  return points;
}
