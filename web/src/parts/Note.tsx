import { useQuery } from "@tanstack/react-query";

/** What somebody wrote about a run, an experiment or a model, in Markdown. */
export function Note({ text }: { text: string }) {
  const { data: html } = useQuery({
    queryKey: ["note", text],
    // Fetched only by who has a note to read. It lets no markup of the note's own through, and no address that runs code.
    queryFn: async () => (await import("micromark")).micromark(text),
    staleTime: Number.POSITIVE_INFINITY,
  });
  if (html === undefined) return <div className="note plain">{text}</div>;
  return <div className="note" data-testid="note" dangerouslySetInnerHTML={{ __html: html }} />;
}
