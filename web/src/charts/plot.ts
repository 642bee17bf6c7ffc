import uPlot from "uplot";
import { type Axis, align, type Columns, Series } from "../lib/series.ts";
import type { Feed } from "./feed.ts";
import { options } from "./options.ts";
import type { Palette } from "./palette.ts";

export interface PlotWishes {
  keys: string[];
  axis: Axis;
  log: boolean;
  palette: Palette;
  /** Where the time axis begins, in milliseconds. */
  zero: number;
  /** Called with the number of points after they have been drawn. */
  drawn: (points: number) => void;
}

/** One uPlot in `element`, drawn anew whenever the feed says that something changed. Returns the undoing. */
export function plot(element: HTMLElement, feed: Feed, wishes: PlotWishes): () => void {
  // A zoomed chart keeps its window while points arrive; a double click gives it all of them again.
  let zoomed = false;
  let points = 0;

  function columns(): Columns {
    const series = wishes.keys.map((key) => feed.series(key) ?? new Series());
    const data = align(series, wishes.axis, wishes.zero);
    if (wishes.log) hideWhatHasNoLogarithm(data);
    points = count(data);
    return data;
  }

  const chart = new uPlot(
    options({
      ...wishes,
      width: element.clientWidth || 400,
      rewinds: () => feed.rewinds,
      drawn: () => wishes.drawn(points),
      zoomed: (yes) => {
        zoomed = yes;
      },
    }),
    columns() as uPlot.AlignedData,
    element,
  );

  function redraw(): void {
    chart.setData(columns() as uPlot.AlignedData, !zoomed);
    // Without a new x range uPlot takes the data but draws nothing by itself.
    if (zoomed) chart.redraw();
  }

  const unzoom = () => {
    zoomed = false;
  };
  chart.over.addEventListener("dblclick", unzoom);
  const resize = new ResizeObserver(() => {
    if (element.clientWidth) chart.setSize({ width: element.clientWidth, height: chart.height });
  });
  resize.observe(element);
  const deaf = feed.listen(redraw);

  return () => {
    deaf();
    resize.disconnect();
    chart.destroy();
  };
}

function hideWhatHasNoLogarithm(data: Columns): void {
  for (const column of data.slice(1)) {
    for (const [i, y] of column.entries()) if (typeof y === "number" && y <= 0) column[i] = null as never;
  }
}

function count(data: Columns): number {
  let points = 0;
  for (const column of data.slice(1)) for (const y of column) if (typeof y === "number") points++;
  return points;
}
