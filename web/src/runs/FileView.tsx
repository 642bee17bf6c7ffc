import { useMutation, useQuery } from "@tanstack/react-query";
import { download, nameOf, type Place, read } from "../api/files.ts";
import type { Artifact } from "../api/types.ts";
import { bytes } from "../lib/format.ts";
import { imageType, MOST_BYTES, MOST_ROWS, type Preview, preview } from "../lib/preview.ts";
import { ErrorLine } from "../parts/ErrorLine.tsx";
import { strings } from "../strings.ts";

const BIGGEST_IMAGE = 16 * 1024 * 1024;

interface Props {
  place: Place;
  file: Artifact;
  close: () => void;
}

type Seen = Preview | { kind: "image"; address: string };

/** One file as far as it can be shown: an image, a table, or the beginning of a text. */
export function FileView({ place, file, close }: Props) {
  const fetching = useMutation({ mutationFn: () => download(place, file.path) });
  const { data: seen, error } = useQuery({
    queryKey: ["file", place, file.path],
    queryFn: ({ signal }) => look(place, file, signal),
    staleTime: Number.POSITIVE_INFINITY,
    // An image may be large, and nobody needs it any more.
    gcTime: 0,
  });
  return (
    <div className="file" data-testid="file-view" data-kind={seen?.kind}>
      <header className="row">
        <h3>{file.path}</h3>
        <button type="button" className="quiet" disabled={fetching.isPending} onClick={() => fetching.mutate()}>
          {strings.download}
        </button>
        <button type="button" className="quiet" onClick={close} aria-label={strings.closeFile}>
          ✕
        </button>
      </header>
      <ErrorLine message={(error ?? fetching.error)?.message} />
      {!seen && !error && <p className="hint">{strings.loading}</p>}
      {seen && <Shown seen={seen} file={file} />}
    </div>
  );
}

function Shown({ seen, file }: { seen: Seen; file: Artifact }) {
  const isCut = (file.file_size ?? 0) > MOST_BYTES;
  if (seen.kind === "image") return <img src={seen.address} alt={nameOf(file.path)} />;
  if (seen.kind === "none") return <p className="empty">{strings.noPreview}</p>;
  return (
    <>
      {seen.kind === "text" ? <pre>{seen.text}</pre> : <Rows head={seen.head} rows={seen.rows} />}
      {isCut && <p className="hint">{strings.firstBytes(bytes(MOST_BYTES), bytes(file.file_size ?? 0))}</p>}
    </>
  );
}

function Rows({ head, rows }: { head: string[]; rows: string[][] }) {
  return (
    <div className="scroll">
      <table className="plain">
        <thead>
          <tr>
            {head.map((name, i) => (
              // Columns have no other identity than their place; names may repeat.
              <th key={i} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, i) => (
            <tr key={i}>
              {row.map((value, j) => (
                <td key={j}>{value}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {rows.length === MOST_ROWS && <p className="hint">{strings.firstRows(MOST_ROWS)}</p>}
    </div>
  );
}

async function look(place: Place, file: Artifact, signal: AbortSignal): Promise<Seen> {
  const type = imageType(file.path);
  const size = file.file_size ?? 0;
  // No range of an empty file can be asked for.
  if (size === 0) return { kind: "text", text: "" };
  if (type && size <= BIGGEST_IMAGE) {
    const blob = await read(place, file.path, BIGGEST_IMAGE, signal);
    return { kind: "image", address: await dataAddress(new Blob([blob], { type })) };
  }
  const blob = await read(place, file.path, MOST_BYTES, signal);
  return preview(file.path, new Uint8Array(await blob.arrayBuffer()), blob.size >= size);
}

/** The page's policy lets images come from here or from the address itself. */
function dataAddress(blob: Blob): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(String(reader.result)));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(blob);
  });
}
