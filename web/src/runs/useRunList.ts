import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useEffect, useMemo } from "react";
import { type RunSearch, searchRuns } from "../api/queries.ts";
import { hasGap, merge } from "./merge.ts";

const BUSY = 2_000;
const IDLE = 8_000;

/**
 * The runs that match, read page by page as the reader scrolls. Only the first page is asked for again and again: with ten
 * pages read, refreshing all of them every two seconds would be ten searches.
 */
export function useRunList(search: RunSearch) {
  const isReady = search.experimentIds.length > 0;
  const pages = useInfiniteQuery({
    queryKey: ["runs", search],
    queryFn: ({ pageParam, signal }) => searchRuns(search, pageParam, signal),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_page_token || undefined,
    enabled: isReady,
    staleTime: Number.POSITIVE_INFINITY,
    // While a filter is being changed the last answer stays, or the table would flicker.
    placeholderData: (previous) => previous,
  });
  const first = useQuery({
    queryKey: ["runs-first", search],
    queryFn: ({ signal }) => searchRuns(search, "", signal),
    enabled: pages.isSuccess && !pages.isPlaceholderData,
    initialData: pages.isPlaceholderData ? undefined : pages.data?.pages[0],
    initialDataUpdatedAt: pages.dataUpdatedAt,
    refetchInterval: (query) => {
      const runs = query.state.data?.runs ?? [];
      return runs.some((run) => run.info.status === "RUNNING") ? BUSY : IDLE;
    },
  });

  const all = pages.data?.pages;
  const byTime = search.order === "";
  const runs = useMemo(() => merge(all ?? [], first.data, byTime), [all, first.data, byTime]);
  const { refetch } = pages;
  const gap = hasGap(all ?? [], first.data, byTime);
  useEffect(() => {
    if (gap) void refetch();
  }, [gap, refetch]);

  return {
    runs,
    error: pages.error ?? first.error,
    isPending: pages.isPending,
    hasMore: pages.hasNextPage,
    isLoadingMore: pages.isFetchingNextPage,
    loadMore: pages.fetchNextPage,
  };
}
