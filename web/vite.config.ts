import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";
import { precompress } from "./plugins/precompress.ts";

export default defineConfig({
  // Relative addresses, so that the page also works behind a proxy's path.
  base: "./",
  plugins: [react(), precompress()],
  build: {
    outDir: "../src/noria/server/static",
    emptyOutDir: true,
    target: "es2022",
    // Everything is a file of our own origin: a data: URL would need a hole in the content security policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    // `npm run dev` beside a running server: NORIA_URL=http://127.0.0.1:PORT npm run dev
    proxy: { "/api": process.env.NORIA_URL ?? "http://127.0.0.1:5000" },
  },
});
