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

const REREAD = 5_000;

/** The feeds of several runs, without streams: their curves are read again now and then, while any of them goes on. */
export function useFeeds(runIds: readonly string[], isGoingOn: boolean): Feed[] {
  const client = useQueryClient();
  const [feeds, setFeeds] = useState<Feed[]>([]);
  const wanted = runIds.join(",");
  useEffect(() => {
    const fresh = wanted.split(",").map((id) => {
      return new Feed(id, () => void client.invalidateQueries({ queryKey: ["run", id] }));
    });
    for (const feed of fresh) feed.read();
    setFeeds(fresh);
    return () => {
      for (const feed of fresh) feed.stop();
    };
  }, [wanted, client]);
  useEffect(() => {
    if (!isGoingOn) return;
    const timer = setInterval(() => {
      for (const feed of feeds) feed.read();
    }, REREAD);
    return () => clearInterval(timer);
  }, [feeds, isGoingOn]);
  return feeds.map((feed) => feed.runId).join(",") === wanted ? feeds : [];
}
