// The nouns, as the server writes them. An absent field is optional here; times are milliseconds since 1970.

export type RunStatus = "RUNNING" | "SCHEDULED" | "FINISHED" | "FAILED" | "KILLED";
export type JobState = "QUEUED" | "SUBMITTED" | "RUNNING" | "COMPLETED" | "FAILED" | "CANCELLED";
/** A double: what JSON cannot write as a number comes as its name. */
export type Double = number | "NaN" | "Infinity" | "-Infinity";

export interface Pair {
  key: string;
  value: string;
}

export interface Metric {
  key: string;
  value: Double;
  timestamp: number;
  step: number;
}

export interface Experiment {
  experiment_id: string;
  name: string;
}

export interface RunInfo {
  run_id: string;
  run_name: string;
  experiment_id: string;
  user_id: string;
  status: RunStatus;
  start_time: number;
  end_time?: number;
  artifact_uri: string;
}

export interface Run {
  info: RunInfo;
  data: { metrics?: Metric[]; params?: Pair[]; tags?: Pair[] };
}

export interface Artifact {
  path: string;
  is_dir: boolean;
  file_size?: number;
}

export interface Dataset {
  name: string;
  digest: string;
  source_type?: string;
  source?: string;
}

export interface ModelVersion {
  name: string;
  version: string;
  current_stage: string;
  creation_timestamp: number;
  run_id: string;
  aliases: string[];
}

export interface RegisteredModel {
  name: string;
  description?: string;
  creation_timestamp: number;
  last_updated_timestamp: number;
  latest_versions?: ModelVersion[];
  aliases?: { alias: string; version: string }[];
}

export interface Endpoint {
  endpoint_id: string;
  model_uri: string;
  url: string;
  state: "RUNNING" | "STOPPED";
  host: string;
}

export interface Lineage {
  run_id: string;
  data: Dataset[];
  versions: ModelVersion[];
  endpoints: Endpoint[];
}

export interface Job {
  id: string;
  run_id: string;
  spec: {
    command: string[];
    name: string;
    scheduler: string;
    nodes: number;
    tasks_per_node: number;
    gpus: number;
  };
  state: JobState;
  user: string;
  created: number;
  scheduler_id: string;
  started: number | null;
  ended: number | null;
  exit_code: number | null;
  reason: string;
}

/** One metric's history as columns, in the order (step, timestamp). */
export interface Points {
  steps: number[];
  values: Double[];
  timestamps: number[];
}

/** What the live stream says. */
export type LiveEvent =
  | { type: "log"; metrics: Metric[] }
  | { type: "rewind"; step: number }
  | { type: "run" }
  /** This page could not keep up and events were dropped. */
  | { type: "again" };
