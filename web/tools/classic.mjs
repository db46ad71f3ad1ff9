// Makes uproar.classic.js, for browsers without modules: `node tools/classic.mjs`. A test compares it.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

export function classic() {
  const source = readFileSync(here("../uproar.js"), "utf8");
  const exported = "export { uproar, uproar as default };\n";
  if (!source.endsWith(exported)) throw new Error("uproar.js has to end with: " + exported);
  const body = source.slice(0, -exported.length).trimEnd();
  return `/* Made of uproar.js by tools/classic.mjs. */\n(function () {\n"use strict";\n${body}\n\nroot.uproar = uproar;\n})();\n`;
}

export const classicPath = here("../uproar.classic.js");

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(classicPath, classic());
