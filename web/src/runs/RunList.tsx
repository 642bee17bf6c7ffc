import { useMemo } from "react";
import { Failure } from "../api/http.ts";
import { useExperiments } from "../api/queries.ts";
import type { Experiment } from "../api/types.ts";
import { ErrorLine } from "../parts/ErrorLine.tsx";
import type { Route } from "../route.ts";
import { strings } from "../strings.ts";
import { ColumnPicker, readColumns } from "./ColumnPicker.tsx";
import { fields, usual } from "./choice.ts";
import { columnsFor } from "./columns.tsx";
import { ExperimentPicker } from "./ExperimentPicker.tsx";
import { FilterBox } from "./FilterBox.tsx";
import { RunTable } from "./RunTable.tsx";
import { useRunList } from "./useRunList.ts";

const NONE: Experiment[] = [];

/** The list of runs, with what narrows it down. Its state lies in the address. */
export function RunList({ route: { id, query } }: { route: Route }) {
  const { data: experiments = NONE, error: experimentsError } = useExperiments();
  const filter = query.get("filter") ?? "";
  const picked = useMemo(() => (query.get("experiments") ?? "").split(",").filter(Boolean), [query]);
  const experimentIds = picked.length ? picked : experiments.map((one) => one.experiment_id);
  const list = useRunList({ experimentIds, filter });

  const all = useMemo(() => fields(list.runs), [list.runs]);
  const chosen = useMemo(() => readColumns(query.get("columns")) ?? usual(all), [query, all]);
  // A list of words as text: a fresh array with the same words must not make all columns anew.
  const chosenText = JSON.stringify(chosen);
  const isNarrow = id !== "";
  const columns = useMemo(() => {
    const experimentNames = new Map(experiments.map((one) => [one.experiment_id, one.name]));
    return columnsFor({ experimentNames, chosen: JSON.parse(chosenText), isNarrow, query });
  }, [experiments, chosenText, isNarrow, query]);

  const isFilterWrong = list.error instanceof Failure && filter !== "";
  const message = (experimentsError ?? list.error)?.message;
  return (
    <section className="list" aria-label={strings.runs}>
      <div className="tools">
        <FilterBox value={filter} error={isFilterWrong ? message : undefined} />
        <ExperimentPicker all={experiments} chosen={picked} />
        <ColumnPicker all={all} chosen={chosen} />
        <span className="hint">{strings.shown(list.runs.length, list.hasMore)}</span>
      </div>
      {!isFilterWrong && <ErrorLine message={message} />}
      <RunTable
        runs={list.runs}
        columns={columns}
        openId={id}
        query={query}
        loadMore={list.hasMore && !list.isLoadingMore ? list.loadMore : undefined}
      />
      {list.isPending && <p className="empty">{strings.loading}</p>}
      {!list.isPending && !message && list.runs.length === 0 && (
        <p className="empty">{filter ? strings.noMatches : strings.noRuns}</p>
      )}
      {list.isLoadingMore && <p className="hint">{strings.loadingMore}</p>}
    </section>
  );
}
