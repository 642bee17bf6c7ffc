import { useState } from "react";
import { isReachable, nameOf, type Place } from "../api/files.ts";
import { useFiles } from "../api/queries.ts";
import type { Artifact } from "../api/types.ts";
import { bytes } from "../lib/format.ts";
import { ErrorLine } from "../parts/ErrorLine.tsx";
import { strings } from "../strings.ts";
import { FileView } from "./FileView.tsx";

interface Props {
  place: Place;
  /** Said when there are none. */
  empty: string;
}

/** Files as a tree that is read folder by folder, and beside it the one that was chosen. */
export function Artifacts({ place, empty }: Props) {
  const [open, setOpen] = useState<Artifact | null>(null);
  return (
    <section aria-label={strings.artifacts}>
      <h2>{strings.artifacts}</h2>
      {!isReachable(place) && <p className="empty">{strings.filesElsewhere}</p>}
      {isReachable(place) && (
        <div className={open ? "files open" : "files"}>
          <Listing place={place} path="" empty={empty} open={open} choose={setOpen} />
          {open && <FileView key={open.path} place={place} file={open} close={() => setOpen(null)} />}
        </div>
      )}
    </section>
  );
}

interface ListingProps extends Props {
  path: string;
  open: Artifact | null;
  choose: (file: Artifact) => void;
}

function Listing({ place, path, empty, open, choose }: ListingProps) {
  const { data: files, error } = useFiles(place, path);
  if (error) return <ErrorLine message={error.message} />;
  if (!files) return <p className="hint">{strings.loading}</p>;
  if (files.length === 0) return <p className="empty">{empty}</p>;
  return (
    <ul className="tree">
      {files.map((file) => (
        <li key={file.path}>
          {file.is_dir ? (
            <Folder place={place} path={file.path} empty={strings.emptyFolder} open={open} choose={choose} />
          ) : (
            <button
              type="button"
              className="link"
              data-testid="file"
              aria-current={open?.path === file.path || undefined}
              onClick={() => choose(file)}
            >
              {nameOf(file.path)}{" "}
              <span className="hint">{file.file_size === undefined ? "" : bytes(file.file_size)}</span>
            </button>
          )}
        </li>
      ))}
    </ul>
  );
}

function Folder(props: ListingProps) {
  const [isOpen, setOpen] = useState(false);
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{nameOf(props.path)}/</summary>
      {isOpen && <Listing {...props} />}
    </details>
  );
}
