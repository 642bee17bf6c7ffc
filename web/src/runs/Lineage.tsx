import type { ReactNode } from "react";
import { useLineage } from "../api/queries.ts";
import type { Run } from "../api/types.ts";
import { ErrorLine } from "../parts/ErrorLine.tsx";
import { Status } from "../parts/Status.tsx";
import { address } from "../route.ts";
import { strings } from "../strings.ts";

const words = strings.lineageOf;

/** What the run was made from and what was made from it, from left to right. */
export function Lineage({ run }: { run: Run }) {
  const { data: found, error } = useLineage(run.info.run_id);
  return (
    <section aria-label={strings.lineage}>
      <h2>{strings.lineage}</h2>
      <ErrorLine message={error?.message} />
      {found && (
        <ol className="lineage" data-testid="lineage">
          <Stage name={words.data}>
            {found.data.map((one) => (
              <Box key={one.name + one.digest} title={one.name} detail={one.digest} />
            ))}
          </Stage>
          <Stage name={words.run}>
            <Box title={run.info.run_name || run.info.run_id} detail={strings.thisRun} isHere />
          </Stage>
          <Stage name={words.versions}>
            {found.versions.map((one) => (
              <Box
                key={one.name + one.version}
                title={`${one.name} ${one.version}`}
                detail={one.aliases.join(", ")}
                to={address("models", one.name)}
              />
            ))}
          </Stage>
          <Stage name={words.endpoints}>
            {found.endpoints.map((one) => (
              <Box key={one.endpoint_id} title={one.url} detail={<Status of={one.state} />} />
            ))}
          </Stage>
        </ol>
      )}
    </section>
  );
}

function Stage({ name, children }: { name: string; children: ReactNode }) {
  const isEmpty = Array.isArray(children) && children.length === 0;
  return (
    <li>
      <h3>{name}</h3>
      {isEmpty ? <div className="box none">–</div> : children}
    </li>
  );
}

interface BoxProps {
  title: string;
  detail: ReactNode;
  isHere?: boolean;
  to?: string;
}

function Box({ title, detail, isHere = false, to }: BoxProps) {
  return (
    <div className={isHere ? "box here" : "box"} title={title}>
      <b>{to ? <a href={to}>{title}</a> : title}</b>
      <span className="hint">{detail}</span>
    </div>
  );
}
