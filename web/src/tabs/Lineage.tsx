import { DataList } from "../lineage/DataList.tsx";
import { LineageView } from "../lineage/LineageView.tsx";
import type { Route } from "../route.ts";

/** The data sets there are; or one thing of any kind, with where it comes from and what came of it. */
export function Lineage({ route }: { route: Route }) {
  return route.id ? <LineageView key={route.id} route={route} /> : <DataList />;
}
