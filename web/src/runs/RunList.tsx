import { useCallback, useMemo, useState } from "react";
import { Failure } from "../api/http.ts";
import { type RunSearch, useExperiments, useTotal } from "../api/queries.ts";
import type { Experiment } from "../api/types.ts";
import { Check, toggled } from "../parts/Check.tsx";
import { ErrorLine } from "../parts/ErrorLine.tsx";
import { type Route, setQuery } from "../route.ts";
import { strings } from "../strings.ts";
import { ColumnPicker } from "./ColumnPicker.tsx";
import { fields, readColumns, usual } from "./choice.ts";
import { columnsFor } from "./columns.tsx";
import { ExperimentHead } from "./ExperimentHead.tsx";
import { ExperimentPicker } from "./ExperimentPicker.tsx";
import { FilterBox } from "./FilterBox.tsx";
import { flat, nest } from "./nest.ts";
import { RunTable } from "./RunTable.tsx";
import { useRunList } from "./useRunList.ts";

const NONE: Experiment[] = [];

/** The list of runs, with what narrows it down. Its state lies in the address. */
export function RunList({ route: { id, query }, isNarrow }: { route: Route; isNarrow: boolean }) {
  const { data: experiments = NONE, error: experimentsError } = useExperiments();
  const search = useMemo(() => searchOf(query, experiments), [query, experiments]);
  const list = useRunList(search);
  const total = useTotal(search);

  const [closed, setClosed] = useState<ReadonlySet<string>>(new Set<string>());
  const toggle = useCallback((one: string) => setClosed((ids) => new Set(toggled([...ids], one))), []);
  const all = useMemo(() => fields(list.runs), [list.runs]);
  const chosen = useMemo(() => readColumns(query.get("columns")) ?? usual(all), [query, all]);
  // A list of words as text: a fresh array with the same words must not make all columns anew.
  const chosenText = JSON.stringify(chosen);
  const columns = useMemo(() => {
    const experimentNames = new Map(experiments.map((one) => [one.experiment_id, one.name]));
    return columnsFor({ experimentNames, chosen: JSON.parse(chosenText), isNarrow, query, closed, toggle });
  }, [experiments, chosenText, isNarrow, query, closed, toggle]);
  // Who sorts by a loss wants the least first, not what was started inside of what.
  const rows = useMemo(
    () => (search.order ? flat(list.runs) : nest(list.runs, closed)),
    [search.order, list.runs, closed],
  );

  const picked = experiments.filter((one) => search.experimentIds.includes(one.experiment_id));
  const isFilterWrong = list.error instanceof Failure && search.filter !== "";
  const message = (experimentsError ?? list.error)?.message;
  return (
    <section className="list" aria-label={strings.runs}>
      {picked.length === 1 && query.has("experiments") && !isNarrow && <ExperimentHead of={picked[0] as Experiment} />}
      <div className="tools">
        <FilterBox value={search.filter} error={isFilterWrong ? message : undefined} />
        <ExperimentPicker
          all={experiments.filter((one) => search.isDeleted || one.lifecycle_stage === "active")}
          chosen={experimentsIn(query)}
        />
        <ColumnPicker all={all} chosen={chosen} />
        <Check
          label={strings.onlyDeleted}
          isOn={search.isDeleted}
          toggle={() => setQuery({ view: search.isDeleted ? "" : "deleted" })}
        />
        <span className="hint" data-testid="total">
          {strings.shown(total ?? list.runs.length, total === undefined && list.hasMore)}
        </span>
      </div>
      {!isFilterWrong && <ErrorLine message={message} />}
      <RunTable
        rows={rows}
        columns={columns}
        openId={id}
        query={query}
        order={search.order}
        loadMore={list.hasMore && !list.isLoadingMore ? list.loadMore : undefined}
      />
      {list.isPending && <p className="empty">{strings.loading}</p>}
      {!list.isPending && !message && list.runs.length === 0 && <p className="empty">{nothing(search)}</p>}
      {list.isLoadingMore && <p className="hint">{strings.loadingMore}</p>}
    </section>
  );
}

function searchOf(query: URLSearchParams, experiments: Experiment[]): RunSearch {
  const isDeleted = query.get("view") === "deleted";
  const picked = experimentsIn(query);
  const known = experiments.filter((one) => isDeleted || one.lifecycle_stage === "active");
  return {
    experimentIds: picked.length ? picked : known.map((one) => one.experiment_id),
    filter: query.get("filter") ?? "",
    order: query.get("order") ?? "",
    isDeleted,
  };
}

function experimentsIn(query: URLSearchParams): string[] {
  return (query.get("experiments") ?? "").split(",").filter(Boolean);
}

function nothing({ filter, isDeleted }: RunSearch): string {
  if (filter) return strings.noMatches;
  return isDeleted ? strings.noDeleted : strings.noRuns;
}
