import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { canDownload, download } from "../api/download.ts";
import { useArtifacts } from "../api/queries.ts";
import type { Artifact, Run } from "../api/types.ts";
import { bytes } from "../lib/format.ts";
import { ErrorLine } from "../parts/ErrorLine.tsx";
import { strings } from "../strings.ts";

/** The files that a run kept, as a tree that is read folder by folder. */
export function Artifacts({ run }: { run: Run }) {
  return (
    <section aria-label={strings.artifacts}>
      <h2>{strings.artifacts}</h2>
      <Listing run={run} path="" empty={strings.noArtifacts} />
    </section>
  );
}

function Listing({ run, path, empty }: { run: Run; path: string; empty: string }) {
  const { data: files, error } = useArtifacts(run.info.run_id, path);
  if (error) return <ErrorLine message={error.message} />;
  if (!files) return <p className="hint">{strings.loading}</p>;
  if (files.length === 0) return <p className="empty">{empty}</p>;
  return (
    <ul className="tree">
      {files.map((file) => (
        <li key={file.path}>
          {file.is_dir ? <Folder run={run} path={file.path} /> : <File run={run} file={file} />}
        </li>
      ))}
    </ul>
  );
}

function Folder({ run, path }: { run: Run; path: string }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{nameOf(path)}/</summary>
      {isOpen && <Listing run={run} path={path} empty={strings.emptyFolder} />}
    </details>
  );
}

function File({ run, file }: { run: Run; file: Artifact }) {
  const uri = run.info.artifact_uri;
  const { mutate, error, isPending } = useMutation({ mutationFn: () => download(uri, file.path) });
  const size = <span className="hint">{file.file_size === undefined ? "" : bytes(file.file_size)}</span>;
  if (!canDownload(uri)) {
    return (
      <span>
        {nameOf(file.path)} {size}
      </span>
    );
  }
  return (
    <>
      <button
        type="button"
        className="link"
        disabled={isPending}
        aria-label={strings.download(file.path)}
        onClick={() => mutate()}
      >
        {nameOf(file.path)}
      </button>{" "}
      {size}
      <ErrorLine message={error?.message} />
    </>
  );
}

function nameOf(path: string): string {
  return path.split("/").pop() ?? path;
}
