import { LoggedModelView } from "../models/LoggedModelView.tsx";
import { ModelList } from "../models/ModelList.tsx";
import { ModelView } from "../models/ModelView.tsx";
import type { Route } from "../route.ts";

/** All models; or one of them, registered by its name or logged by its id. */
export function Models({ route: { id } }: { route: Route }) {
  if (!id) return <ModelList />;
  return id.startsWith("m-") ? <LoggedModelView key={id} id={id} /> : <ModelView key={id} name={id} />;
}
