// What the files promise: size, syntax, the classic form, the package, the types.
import * as acorn from "acorn";
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import vm from "node:vm";
import { gzipSync } from "node:zlib";
import { classic, classicPath } from "../tools/classic.mjs";

const web = fileURLToPath(new URL("..", import.meta.url));
const read = (name) => readFileSync(join(web, name), "utf8");
const GZIP_MAX = 6 * 1024;
/* Newer than Chromium 63, Safari 12 or Firefox 60, although the syntax is old enough. */
const TOO_NEW =
  /\b(globalThis|structuredClone|queueMicrotask|WeakRef|replaceAll|matchAll|allSettled|fromEntries|flatMap|randomUUID)\b|\.(flat|at|finally|trimStart|trimEnd|hasOwn)\(|Promise\.any|AbortSignal\./;

test("uproar.js is at most 6 KB gzipped", (t) => {
  const size = gzipSync(read("uproar.js"), { level: 9 }).length;
  t.diagnostic(`${size} bytes`);
  assert.ok(size <= GZIP_MAX, `${size} bytes`);
});

test("what browsers get is ES2017, and needs nothing newer", () => {
  for (const [name, sourceType] of [["uproar.js", "module"], ["uproar.fake.js", "module"], ["uproar.classic.js", "script"]]) {
    acorn.parse(read(name), { ecmaVersion: 2017, sourceType });
    assert.doesNotMatch(read(name), TOO_NEW, name);
  }
});

test("uproar.js depends on nothing", () => {
  assert.doesNotMatch(read("uproar.js"), /^\s*import\b|\bimport\(|\brequire\(/m);
});

test("uproar.classic.js is made of uproar.js (node tools/classic.mjs)", () => {
  assert.equal(readFileSync(classicPath, "utf8"), classic());
});

test("uproar.classic.js gives window.uproar", () => {
  const window = { URL, location: { href: "https://live.example.com/" }, document: {} };
  window.self = window;
  vm.runInNewContext(read("uproar.classic.js"), window);
  assert.equal(window.uproar().room("final").state, "off");
  assert.deepEqual(Object.keys(window).sort(), ["URL", "document", "location", "self", "uproar"]);
});

/** The package as others would install it. */
function installed(use) {
  const dir = mkdtempSync(join(tmpdir(), "uproar-pack-"));
  try {
    const options = { cwd: web, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] };
    const [{ filename, files }] = JSON.parse(execFileSync("npm", ["pack", "--json", "--pack-destination", dir], options));
    const home = join(dir, "node_modules", "uproar-reactions");
    execFileSync("mkdir", ["-p", home]);
    execFileSync("tar", ["-xzf", join(dir, filename), "-C", home, "--strip-components=1"]);
    writeFileSync(join(dir, "package.json"), '{"type":"module"}');
    use(dir, files.map((file) => file.path).sort());
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const USE = `
import uproar, { uproar as named } from "uproar-reactions";
import { fake } from "uproar-reactions/fake";
if (uproar !== named || uproar.fake !== fake) throw new Error("exports");
if (uproar("https://live.example.com").room("final").state !== "off") throw new Error("room");
`;

const USE_TYPES = `
import uproar, { type Frame, type LimitsEvent, type Room, type State } from "uproar-reactions";
import "uproar-reactions/fake";

const room: Room = uproar("https://live.example.com").room("final");
const off: () => void = room.on("frame", (frame: Frame) => console.log(frame.totals["🔥"], frame.viewers));
room.on("state", ({ state, code, reason }) => console.log(state satisfies State, code.toFixed(), reason.length));
room.on("limits", (limits: LimitsEvent) => limits.dropped?.["🔥"]);
room.on("tap", (tap) => tap.key);
// @ts-expect-error there is no such event
room.on("frames", () => {});
// @ts-expect-error it can only be read
room.state = "live";
const taken: boolean = room.react("🔥", 2);
room.sync({ now: () => new Date() });
room.sync({ now: () => null });
room.sync(null);
room.mute();
for await (const frame of room) console.log(frame.window.end, taken);
const client = uproar.fake([{ wait_ms: 10, counts: { "🔥": 3 } }, { down: 1012 }]);
client.frame({ "👏": 1 }, { viewers: 3 });
console.log(client.posts[0]?.reactions, uproar.fold("👍🏽"), room.display("👍"), room.mine);
off();
room.close();
`;

test("the package holds what it exports, and nothing else; it runs, and its types are right", () => {
  installed((dir, files) => {
    const allowed = read("package.json").match(/"files": \[(.*?)\]/s)[1].match(/[\w.]+/g);
    assert.deepEqual(files, [...allowed, "package.json"].sort());
    writeFileSync(join(dir, "use.js"), USE);
    execFileSync(process.execPath, ["use.js"], { cwd: dir });
    writeFileSync(join(dir, "use.ts"), USE_TYPES);
    const tsc = join(web, "node_modules/typescript/bin/tsc");
    const options = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom"];
    try {
      execFileSync(process.execPath, [tsc, ...options, "use.ts"], { cwd: dir, encoding: "utf8" });
    } catch (error) {
      assert.fail(error.stdout);
    }
  });
});

test("files have at most 600 lines", () => {
  const own = (dir) =>
    readdirSync(join(web, dir), { withFileTypes: true }).flatMap((entry) => {
      const path = join(dir, entry.name);
      if (entry.isDirectory()) return entry.name === "node_modules" ? [] : own(path);
      return /\.(m?js|ts|html)$/.test(entry.name) ? [path] : [];
    });
  for (const path of own(".")) assert.ok(read(path).split("\n").length <= 601, path);
});
