// First: charts/palette.ts reads the colours as soon as it is loaded.
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App.tsx";
import { newQueryClient } from "./api/queries.ts";
import { askOtherTabs, takeTokenFromAddress } from "./api/token.ts";
import { Boundary } from "./parts/Boundary.tsx";

// Before anything reads the address or asks the server.
takeTokenFromAddress();
// A second printed address opened in the same tab changes only the fragment.
window.addEventListener("hashchange", () => {
  if (!location.hash.startsWith("#token=")) return;
  takeTokenFromAddress();
  location.reload();
});

await askOtherTabs();
createRoot(document.getElementById("root") as HTMLElement).render(
  <StrictMode>
    <QueryClientProvider client={newQueryClient()}>
      <Boundary>
        <App />
      </Boundary>
    </QueryClientProvider>
  </StrictMode>,
);
