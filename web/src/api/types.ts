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

export type Stage = "active" | "deleted";

export interface Experiment {
  experiment_id: string;
  name: string;
  artifact_location: string;
  lifecycle_stage: Stage;
  tags?: Pair[];
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
  lifecycle_stage: Stage;
}

export interface Run {
  info: RunInfo;
  data: { metrics?: Metric[]; params?: Pair[]; tags?: Pair[] };
  inputs?: { dataset_inputs?: DatasetInput[]; model_inputs?: { model_id: string }[] };
  outputs?: { model_outputs?: { model_id: string; step: number }[] };
}

/** One metric in a line: the first and last by step, the least and the greatest of what is a number. */
export interface Summary {
  key: string;
  last: Double;
  step: number;
  first: Double;
  first_step: number;
  min: Double | null;
  max: Double | null;
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

export interface DatasetInput {
  dataset: Dataset & { schema?: string; profile?: string };
  tags?: Pair[];
}

export interface LoggedModel {
  info: {
    model_id: string;
    experiment_id: string;
    name: string;
    creation_timestamp_ms: number;
    artifact_uri: string;
    /** Such as LOGGED_MODEL_READY, or what a newer server makes of it. */
    status: string | number;
    model_type?: string;
    source_run_id?: string;
    tags?: Pair[];
  };
  data?: { params?: Pair[]; metrics?: Metric[] };
}

export interface ModelVersion {
  name: string;
  version: string;
  current_stage: string;
  creation_timestamp: number;
  run_id: string;
  source: string;
  description?: string;
  tags?: Pair[];
  aliases: string[];
}

export interface RegisteredModel {
  name: string;
  description?: string;
  creation_timestamp: number;
  last_updated_timestamp: number;
  latest_versions?: ModelVersion[];
  tags?: Pair[];
  aliases?: { alias: string; version: string }[];
}

export type LineageKind =
  | "data"
  | "code"
  | "job"
  | "run"
  | "model"
  | "version"
  | "evaluation"
  | "endpoint"
  | "predictions";

export interface LineageNode {
  /** What edges call it: its kind, a colon and its id. */
  key: string;
  kind: LineageKind;
  id: string;
  title: string;
  state?: string;
  time?: number;
  where?: string;
  facts?: Record<string, string>;
}

export interface LineageEdge {
  source: string;
  target: string;
  verb: string;
}

export interface LineageGraph {
  root: string;
  nodes: LineageNode[];
  edges: LineageEdge[];
  truncated: boolean;
}

/** A data set by its content, and what runs call it. */
export interface DataSet {
  digest: string;
  names: string[];
  source: string;
  runs: number;
  first: number;
  last: number;
}

export type FiringState = "waiting" | "running" | "done" | "failed" | "stopped" | "skipped";

export interface Firing {
  id: string;
  rule: string;
  event: { kind: string; subject: Record<string, unknown> };
  state: FiringState;
  created: number;
  started: number;
  ended: number;
  note: string;
}

/** A step of a firing, tried once. Fields that say nothing are left out. */
export interface FiringLine {
  time: number;
  state: FiringState | "again";
  phase?: "then" | "otherwise";
  step?: number;
  tries?: number;
  note?: string;
}

export interface Rule {
  rule: { name: string; when: Record<string, unknown>; then: Record<string, unknown>[] };
  state: "active" | "paused";
  upcoming: number[];
  counts: Record<string, number>;
  last: Firing | null;
}

export interface Job {
  id: string;
  run_id: string;
  spec: {
    command: string[];
    name: string;
    scheduler: string;
    cluster: string;
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

/**
 * One metric's history as columns, in the order (step, timestamp). A long one comes in so many pieces as were asked for:
 * then `values` are their means, and `mins` and `maxs` hold what lies around each; a short one has no `mins` and `maxs`.
 */
export interface Points {
  steps: number[];
  values: Double[];
  mins?: Double[];
  maxs?: Double[];
  timestamps: number[];
}

/** What the live stream says. */
export type LiveEvent =
  | { type: "log"; metrics: Metric[] }
  | { type: "rewind"; step: number }
  | { type: "run" }
  /** This page could not keep up and events were dropped. */
  | { type: "again" };
