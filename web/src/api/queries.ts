// One function per question to the server. Components ask these and know no path.

import { QueryClient, queryOptions, useMutation, useQueries, useQuery, useQueryClient } from "@tanstack/react-query";
import { list, type Place } from "./files.ts";
import { get, post, Unreachable } from "./http.ts";
import type {
  DataSet,
  Experiment,
  Firing,
  FiringLine,
  Job,
  LineageGraph,
  LoggedModel,
  ModelVersion,
  Points,
  RegisteredModel,
  Rule,
  Run,
  Summary,
} from "./types.ts";

const MLFLOW = "api/2.0/mlflow";
const OWN = "api/2.0/noria";

const BUSY = 2_000;
const IDLE = 10_000;

export function newQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        // "always": the page is often used on a laptop that is offline but for a tunnel to the server.
        networkMode: "always",
        staleTime: 1_000,
        // A refusal stays a refusal; a server that is gone comes back, and the page heals by itself.
        retry: (_count, error) => error instanceof Unreachable,
        retryDelay: (count) => Math.min(500 * 2 ** count, 4_000),
      },
    },
  });
}

export interface RunSearch {
  experimentIds: string[];
  filter: string;
  /** In the server's own words, such as "metrics.`loss` ASC"; empty for the newest first. */
  order: string;
  isDeleted: boolean;
}

export interface RunPage {
  runs?: Run[];
  next_page_token?: string;
}

/** Runs of the first page, which is waited for, and of those after it, which are many. */
const FIRST_PAGE = 200;
const NEXT_PAGE = 1000;

export function searchRuns(search: RunSearch, pageToken: string, signal?: AbortSignal): Promise<RunPage> {
  const body = {
    experiment_ids: search.experimentIds,
    filter: search.filter,
    run_view_type: search.isDeleted ? "DELETED_ONLY" : "ACTIVE_ONLY",
    max_results: pageToken ? NEXT_PAGE : FIRST_PAGE,
    order_by: [search.order || "attributes.start_time DESC"],
    page_token: pageToken,
  };
  return post(`${MLFLOW}/runs/search`, body, signal);
}

/** How many runs match, whatever the page that is read. Undefined until it is known, and for a filter that is wrong. */
export function useTotal(search: RunSearch): number | undefined {
  const { experimentIds, filter, isDeleted } = search;
  return useQuery({
    queryKey: ["runs-total", experimentIds, filter, isDeleted],
    queryFn: async ({ signal }) => {
      const body = {
        experiment_ids: experimentIds,
        filter,
        run_view_type: isDeleted ? "DELETED_ONLY" : "ACTIVE_ONLY",
      };
      return (await post<{ total: number }>(`${OWN}/runs/count`, body, signal)).total;
    },
    enabled: experimentIds.length > 0,
    refetchInterval: IDLE,
  }).data;
}

export function useExperiments() {
  return useQuery({
    queryKey: ["experiments"],
    queryFn: async ({ signal }) => {
      const body = { max_results: 10_000, view_type: "ALL" };
      const found = await post<{ experiments?: Experiment[] }>(`${MLFLOW}/experiments/search`, body, signal);
      return found.experiments ?? [];
    },
    refetchInterval: IDLE,
  });
}

function runQuery(runId: string) {
  return queryOptions({
    queryKey: ["run", runId],
    queryFn: async ({ signal }) =>
      (await get<{ run: Run }>(`${MLFLOW}/runs/get`, { run_id: runId }, signal)).run,
    refetchInterval: IDLE,
  });
}

export function useRun(runId: string) {
  return useQuery(runQuery(runId));
}

/** Several runs, in the order of their ids; those that are not here yet are left out. */
export function useRuns(runIds: readonly string[]) {
  return useQueries({
    queries: runIds.map(runQuery),
    combine: (results) => ({
      runs: results.flatMap((result) => result.data ?? []),
      error: results.find((result) => result.error)?.error,
    }),
  });
}

/** Deletes a run, or brings it back; nothing is erased. */
export function useDeletion(runId: string) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (to: "delete" | "restore") => post(`${MLFLOW}/runs/${to}`, { run_id: runId }),
    onSuccess: () => client.invalidateQueries(),
  });
}

/** The runs that were started inside of a run, oldest first. */
export function useChildren(run: Run) {
  const { run_id, experiment_id } = run.info;
  return useQuery({
    queryKey: ["run", run_id, "children"],
    queryFn: async ({ signal }) => {
      const body = {
        experiment_ids: [experiment_id],
        filter: `tags.\`mlflow.parentRunId\` = '${run_id}'`,
        max_results: 1000,
        order_by: ["attributes.start_time ASC"],
      };
      return (await post<RunPage>(`${MLFLOW}/runs/search`, body, signal)).runs ?? [];
    },
  });
}

export function useSummaries(runId: string) {
  return useQuery({
    queryKey: ["run", runId, "metrics"],
    queryFn: async ({ signal }) =>
      (await get<{ metrics: Summary[] }>(`${OWN}/runs/metrics`, { run_id: runId }, signal)).metrics,
    refetchInterval: IDLE,
  });
}

export interface Span {
  start: number;
  end: number;
}

/** A curve for a chart of so many pixels; of the steps between two, if a part is asked for. */
export function getCurve(
  runId: string,
  key: string,
  pixels: number,
  part: Span | null,
  signal?: AbortSignal,
): Promise<Points> {
  const query: Record<string, string | number> = { run_id: runId, key, pixels };
  if (part) Object.assign(query, { start_step: part.start, end_step: part.end });
  return get(`${OWN}/runs/curve`, query, signal);
}

/** What was made of what around a thing, which is named by its kind and id, or as people name it. */
export function useLineage(of: string, direction: "both" | "up" | "down") {
  return useQuery({
    queryKey: ["lineage", of, direction],
    queryFn: ({ signal }) => get<LineageGraph>(`${OWN}/lineage`, { id: of, direction }, signal),
    refetchInterval: IDLE,
  });
}

export function useData() {
  return useQuery({
    queryKey: ["data"],
    queryFn: async ({ signal }) =>
      (await get<{ data: DataSet[] }>(`${OWN}/data`, { max_results: 1000 }, signal)).data,
    refetchInterval: IDLE,
  });
}

export function useFiles(place: Place, path: string) {
  return useQuery({
    queryKey: ["files", place, path],
    queryFn: ({ signal }) => list(place, path, signal),
  });
}

export function useJobs() {
  return useQuery({
    queryKey: ["jobs"],
    queryFn: async ({ signal }) => (await get<{ jobs: Job[] }>(`${OWN}/jobs`, {}, signal)).jobs,
    refetchInterval: BUSY,
  });
}

export function useRules() {
  return useQuery({
    queryKey: ["rules"],
    queryFn: async ({ signal }) => (await get<{ rules: Rule[] }>(`${OWN}/rules`, {}, signal)).rules,
    refetchInterval: BUSY,
  });
}

/** The newest firings of one rule, or of all. */
export function useFirings(name: string) {
  return useQuery({
    queryKey: ["firings", name],
    queryFn: async ({ signal }) =>
      (await get<{ firings: Firing[] }>(`${OWN}/rules/firings`, name ? { name } : {}, signal)).firings,
    refetchInterval: BUSY,
  });
}

/** What happened at the steps of a firing, in its order. */
export function useFiringLines(id: string) {
  return useQuery({
    queryKey: ["firing", id],
    queryFn: async ({ signal }) => (await get<{ lines: FiringLine[] }>(`${OWN}/rules/firing`, { id }, signal)).lines,
    refetchInterval: BUSY,
  });
}

export function useModels() {
  return useQuery({
    queryKey: ["models"],
    queryFn: async ({ signal }) => {
      const found = await get<{ registered_models?: RegisteredModel[] }>(
        `${MLFLOW}/registered-models/search`,
        { max_results: 1000 },
        signal,
      );
      return found.registered_models ?? [];
    },
    refetchInterval: IDLE,
  });
}

export function useModel(name: string) {
  return useQuery({
    queryKey: ["model", name],
    queryFn: async ({ signal }) =>
      (await get<{ registered_model: RegisteredModel }>(`${MLFLOW}/registered-models/get`, { name }, signal))
        .registered_model,
    refetchInterval: IDLE,
  });
}

export function useVersions(name: string) {
  return useQuery({
    queryKey: ["model", name, "versions"],
    queryFn: async ({ signal }) => {
      const query = { filter: `name = '${name.replace(/['\\]/g, "\\$&")}'`, max_results: 1000 };
      const found = await get<{ model_versions?: ModelVersion[] }>(`${MLFLOW}/model-versions/search`, query, signal);
      return found.model_versions ?? [];
    },
    refetchInterval: IDLE,
  });
}

export function useLoggedModel(modelId: string) {
  return useQuery({
    queryKey: ["logged", modelId],
    queryFn: async ({ signal }) =>
      (await get<{ model: LoggedModel }>(`${MLFLOW}/logged-models/${encodeURIComponent(modelId)}`, {}, signal)).model,
  });
}

/** The newest logged models of all experiments. */
export function useLoggedModels(experimentIds: string[]) {
  return useQuery({
    queryKey: ["logged", experimentIds],
    queryFn: async ({ signal }) => {
      const order_by = [{ field_name: "creation_timestamp", ascending: false }];
      const body = { experiment_ids: experimentIds, max_results: 100, order_by };
      return (await post<{ models?: LoggedModel[] }>(`${MLFLOW}/logged-models/search`, body, signal)).models ?? [];
    },
    enabled: experimentIds.length > 0,
    refetchInterval: IDLE,
  });
}
