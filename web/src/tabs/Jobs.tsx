import { useJobs } from "../api/queries.ts";
import type { Job } from "../api/types.ts";
import { Duration } from "../parts/Duration.tsx";
import { Status } from "../parts/Status.tsx";
import { type Column, Table } from "../parts/Table.tsx";
import { Time } from "../parts/Time.tsx";
import { address } from "../route.ts";
import { strings } from "../strings.ts";

const words = strings.job;

function size({ spec }: Job): string {
  const gpus = spec.nodes * spec.gpus;
  return gpus ? `${strings.nodes(spec.nodes)}, ${strings.gpus(gpus)}` : strings.nodes(spec.nodes);
}

const COLUMNS: Column<Job>[] = [
  { id: "name", header: words.name, size: 160, cell: (job) => job.spec.name || job.spec.command.join(" ") },
  { id: "state", header: words.state, size: 110, cell: (job) => <Status of={job.state} /> },
  { id: "user", header: words.user, size: 90, cell: (job) => job.user },
  {
    id: "scheduler",
    header: words.scheduler,
    size: 120,
    cell: (job) => [job.spec.cluster || job.spec.scheduler, job.scheduler_id].filter(Boolean).join(" "),
  },
  { id: "size", header: words.size, size: 130, cell: size },
  { id: "created", header: words.created, size: 100, cell: (job) => <Time at={job.created} /> },
  {
    id: "duration",
    header: words.duration,
    size: 110,
    cell: (job) => job.started && <Duration from={job.started} to={job.ended} />,
  },
  { id: "exit", header: words.exit, size: 60, isNumber: true, cell: (job) => job.exit_code },
  {
    id: "run",
    header: words.run,
    size: 90,
    cell: (job) => job.run_id && <a href={address("runs", job.run_id)}>{job.run_id.slice(0, 8)}</a>,
  },
  { id: "reason", header: words.reason, size: 250, wraps: true, cell: (job) => job.reason },
];

export function Jobs() {
  const jobs = useJobs();
  return (
    <Table
      label={strings.tabs.jobs}
      query={jobs}
      columns={COLUMNS}
      rowId={(job) => job.id}
      empty={strings.noJobs}
    />
  );
}
