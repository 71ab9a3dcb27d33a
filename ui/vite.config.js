// The built page goes into the Python package. File names are fixed, so that a rebuild can be compared with what is committed.
import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
  publicDir: false,
  build: {
    outDir: process.env.VIEW_OUT || "../rewardkit/view/static",
    emptyOutDir: true,
    assetsDir: ".",
    target: "es2022",
    modulePreload: false,
    sourcemap: false,
    rollupOptions: { output: { entryFileNames: "view.js", chunkFileNames: "[name].js", assetFileNames: "[name][extname]" } },
  },
});
