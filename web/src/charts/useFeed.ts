import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { Feed } from "./feed.ts";

/** The run's feed, for as long as the run is shown. */
export function useFeed(runId: string): Feed | null {
  const client = useQueryClient();
  const [feed, setFeed] = useState<Feed | null>(null);
  useEffect(() => {
    const changed = () => void client.invalidateQueries({ queryKey: ["run", runId] });
    const fresh = new Feed(runId, changed);
    fresh.start();
    setFeed(fresh);
    return () => fresh.stop();
  }, [runId, client]);
  // Between two runs the old feed is still in the state for one render.
  return feed?.runId === runId ? feed : null;
}
