// One function per question to the server. Components ask these and know no path.

import { QueryClient, useQuery } from "@tanstack/react-query";
import { get, post, Unreachable } from "./http.ts";
import type { Artifact, Experiment, Job, Lineage, Points, RegisteredModel, Run } from "./types.ts";

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
}

export interface RunPage {
  runs?: Run[];
  next_page_token?: string;
}

export const PAGE_SIZE = 200;

export function searchRuns(search: RunSearch, pageToken: string, signal?: AbortSignal): Promise<RunPage> {
  const body = {
    experiment_ids: search.experimentIds,
    filter: search.filter,
    max_results: PAGE_SIZE,
    order_by: ["attributes.start_time DESC"],
    page_token: pageToken,
  };
  return post(`${MLFLOW}/runs/search`, body, signal);
}

export function useExperiments() {
  return useQuery({
    queryKey: ["experiments"],
    queryFn: async ({ signal }) => {
      const body = { max_results: 1000 };
      const found = await post<{ experiments?: Experiment[] }>(`${MLFLOW}/experiments/search`, body, signal);
      return found.experiments ?? [];
    },
    refetchInterval: IDLE,
  });
}

export function useRun(runId: string) {
  return useQuery({
    queryKey: ["run", runId],
    queryFn: async ({ signal }) =>
      (await get<{ run: Run }>(`${MLFLOW}/runs/get`, { run_id: runId }, signal)).run,
    refetchInterval: IDLE,
  });
}

export function getCurve(runId: string, key: string, signal?: AbortSignal): Promise<Points> {
  return get(`${OWN}/runs/curve`, { run_id: runId, key }, signal);
}

export function useLineage(runId: string) {
  return useQuery({
    queryKey: ["run", runId, "lineage"],
    queryFn: ({ signal }) => get<Lineage>(`${OWN}/runs/lineage`, { run_id: runId }, signal),
  });
}

export function useArtifacts(runId: string, path: string) {
  return useQuery({
    queryKey: ["run", runId, "artifacts", path],
    queryFn: async ({ signal }) => {
      const query: Record<string, string> = path ? { run_id: runId, path } : { run_id: runId };
      return (await get<{ files?: Artifact[] }>(`${MLFLOW}/artifacts/list`, query, signal)).files ?? [];
    },
  });
}

export function useJobs() {
  return useQuery({
    queryKey: ["jobs"],
    queryFn: async ({ signal }) => (await get<{ jobs: Job[] }>(`${OWN}/jobs`, {}, signal)).jobs,
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
