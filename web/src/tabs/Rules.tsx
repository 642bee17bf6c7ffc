import type { Route } from "../route.ts";
import { FiringList } from "../rules/FiringList.tsx";
import { FiringView } from "../rules/FiringView.tsx";
import { RuleList } from "../rules/RuleList.tsx";

/** All rules and what they did last; the firings of one; or what happened at each step of a firing. */
export function Rules({ route: { id, query } }: { route: Route }) {
  const firing = query.get("firing");
  return (
    <div className="page">
      {!id && <RuleList />}
      {firing && <FiringView key={firing} id={firing} />}
      <FiringList key={id} rule={id} />
    </div>
  );
}
