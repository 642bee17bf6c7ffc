import { useExperiments } from "../api/queries.ts";
import type { Run } from "../api/types.ts";
import { Copy } from "../parts/Copy.tsx";
import { Duration } from "../parts/Duration.tsx";
import { Status } from "../parts/Status.tsx";
import { Time } from "../parts/Time.tsx";
import { strings } from "../strings.ts";

export function RunHeader({ run: { info }, closeTo }: { run: Run; closeTo: string }) {
  const experiment = useExperiments().data?.find((one) => one.experiment_id === info.experiment_id);
  const isOver = info.status !== "RUNNING" && info.status !== "SCHEDULED";
  return (
    <header className="run-head">
      <div className="row">
        <h1>{info.run_name || info.run_id}</h1>
        <Status of={info.status} />
        <a className="close" href={closeTo} aria-label={strings.close} title={strings.close}>
          ✕
        </a>
      </div>
      <dl>
        <Fact name={strings.experiment}>{experiment?.name ?? info.experiment_id}</Fact>
        <Fact name={strings.user}>{info.user_id || "–"}</Fact>
        <Fact name={strings.started}>
          <Time at={info.start_time} />
        </Fact>
        <Fact name={strings.duration}>
          <Duration from={info.start_time} to={isOver ? (info.end_time ?? info.start_time) : null} />
        </Fact>
        <Fact name={strings.runId}>
          <Copy text={info.run_id} />
        </Fact>
      </dl>
    </header>
  );
}

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
