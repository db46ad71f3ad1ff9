// What the files promise: size, syntax, the classic form, the package, the types.
import * as acorn from "acorn";
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import vm from "node:vm";
import { gzipSync } from "node:zlib";
import { classic, classicPath } from "../tools/classic.mjs";

const web = fileURLToPath(new URL("..", import.meta.url));
const read = (name) => readFileSync(join(web, name), "utf8");
/* Gzipped, in bytes. */
const SIZES = { "uproar.js": 6 * 1024, "stage.js": 5 * 1024 };
const SCRIPTS = ["uproar.classic.js"];
const OWN_PAGES = readdirSync(join(web, "pages")).filter((name) => name.endsWith(".js") && !name.startsWith("uPlot"));
const MODULES = ["uproar.js", "uproar.fake.js", "stage.js", "uproar-reactions.js", ...OWN_PAGES.map((name) => "pages/" + name)];
/* Newer than Chromium 63, Safari 12 or Firefox 60, although the syntax is old enough. */
const TOO_NEW =
  /\b(globalThis|structuredClone|queueMicrotask|WeakRef|replaceAll|matchAll|allSettled|fromEntries|flatMap|randomUUID)\b|\.(flat|at|finally|trimStart|trimEnd|hasOwn)\(|Promise\.any|AbortSignal\./;

for (const [name, most] of Object.entries(SIZES)) {
  test(`${name} is at most ${most} bytes gzipped`, (t) => {
    const size = gzipSync(read(name), { level: 9 }).length;
    t.diagnostic(`${size} bytes`);
    assert.ok(size <= most, `${size} bytes`);
  });
}

test("what browsers get is ES2017, and needs nothing newer", () => {
  for (const name of MODULES.concat(SCRIPTS)) {
    const sourceType = SCRIPTS.includes(name) ? "script" : "module";
    assert.doesNotThrow(() => acorn.parse(read(name), { ecmaVersion: 2017, sourceType }), name);
    assert.doesNotMatch(read(name), TOO_NEW, name);
  }
});

test("uproar.js and stage.js depend on nothing; the element on these two; pages only on files of this folder", () => {
  const imported = (name) => [...read(name).matchAll(/^\s*import\b.*?"(.*?)";/gm)].map((found) => found[1]);
  assert.deepEqual([...imported("uproar.js"), ...imported("stage.js")], []);
  assert.deepEqual(imported("uproar-reactions.js"), ["./uproar.js", "./stage.js"]);
  for (const name of MODULES) {
    assert.doesNotMatch(read(name), /\bimport\(|\brequire\(/, name);
    for (const other of imported(name)) assert.ok(readdirSync(join(web, dirname(name), dirname(other))).includes(basename(other)), other);
  }
});

test("nothing that strangers wrote can become HTML: no script makes elements of text", () => {
  for (const name of MODULES) assert.doesNotMatch(read(name), /innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function/, name);
});

test("uPlot is what npm has, with its licence", () => {
  const dist = join(web, "node_modules/uplot");
  for (const [ours, theirs] of [["uPlot.iife.min.js", "dist/uPlot.iife.min.js"], ["uPlot.min.css", "dist/uPlot.min.css"], ["uPlot.LICENSE.txt", "LICENSE"]]) {
    assert.ok(readFileSync(join(web, "pages", ours)).equals(readFileSync(join(dist, theirs))), ours);
  }
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
import { plan, spritesFor } from "uproar-reactions/stage";
if (uproar !== named || uproar.fake !== fake) throw new Error("exports");
if (uproar("https://live.example.com").room("final").state !== "off") throw new Error("room");
if (plan({ counts: { a: 3 } }, spritesFor(3, 2000), Math.random).length !== 3) throw new Error("stage");
`;

const USE_TYPES = `
import uproar, { type Frame, type LimitsEvent, type Room, type State } from "uproar-reactions";
import "uproar-reactions/fake";
import { createStage, type Skin } from "uproar-reactions/stage";
import { UproarReactions } from "uproar-reactions/element";

const element: UproarReactions = document.createElement("uproar-reactions");
element.addEventListener("frame", (event) => console.log(event.detail.total.toFixed(), element.room?.state));
element.addEventListener("click", () => element.room?.react("🔥"));
const stage = createStage(document.body, { skin: "bars", top: 5 });
// @ts-expect-error there is no such skin
stage.skin = "walls";
console.log(stage.skin satisfies Skin, stage.stats.live);
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
    const allowed = JSON.parse(read("package.json")).files;
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
