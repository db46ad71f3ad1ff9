// The moving picture of the README: `node tools/capture.mjs path/to/uproar [file]`. Wants chromium and ffmpeg (Debian).
// It starts the binary, puts a seeded crowd into a room, and records the viewer page.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { crowd, seeded } from "./crowd.mjs";

const [binary, file = fileURLToPath(new URL("../../docs/assets/uproar.webp", import.meta.url))] = process.argv.slice(2);
if (!binary) throw new Error("usage: node tools/capture.mjs path/to/uproar [file.webp|file.gif]");
process.env.UPROAR_BIN = resolve(binary);
const { Uproar } = await import("../tests/real/server.mjs");
const { chromium } = await import("../tests/real/browsers.mjs");

const SEED = 7;
const ROOM = "ind-pak-final";
const RECORDED_MS = 7000;
const PICTURES_PER_S = 12;
const WIDTH = 800;
const BYTES_MAX = 1_500_000;
const VIEW = { viewport: { width: 960, height: 600 }, colorScheme: "dark" };

/** Records what the page shows; gives [{at: seconds, png}]. */
async function record(page) {
  const session = await page.driver.context().newCDPSession(page.driver);
  const pictures = [];
  session.on("Page.screencastFrame", ({ data, metadata, sessionId }) => {
    pictures.push({ at: metadata.timestamp, png: Buffer.from(data, "base64") });
    session.send("Page.screencastFrameAck", { sessionId }).catch(() => {});
  });
  await session.send("Page.startScreencast", { format: "png" });
  const end = Date.now() + RECORDED_MS;
  // The viewer taps too, on one button after the other.
  for (let i = 0; Date.now() < end; i++) {
    await new Promise((wake) => setTimeout(wake, 900));
    await page.driver.locator(".button").nth([0, 1, 1, 2, 0, 4][i % 6]).click();
  }
  await session.send("Page.stopScreencast");
  return pictures;
}

/** Writes one picture for each moment of an even pace, because the browser's own pace is not even. */
function spread(pictures, dir) {
  const [start, end] = [pictures[0].at, pictures[pictures.length - 1].at];
  let n = 0;
  for (let at = start; at <= end; at += 1 / PICTURES_PER_S) {
    const shown = pictures.filter((picture) => picture.at <= at).pop();
    writeFileSync(join(dir, `${String(n++).padStart(4, "0")}.png`), shown.png);
  }
}

function encode(dir, quality) {
  const isGif = file.endsWith(".gif");
  const scale = `scale=${WIDTH}:-2:flags=lanczos`;
  const codec = isGif
    ? ["-vf", `${scale},split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none`]
    : ["-vf", scale, "-c:v", "libwebp_anim", "-quality", String(quality), "-compression_level", "6"];
  const args = ["-v", "error", "-y", "-framerate", String(PICTURES_PER_S), "-i", join(dir, "%04d.png"), ...codec, "-loop", "0", file];
  const { status, stderr } = spawnSync("ffmpeg", args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`ffmpeg: ${stderr}`);
  return statSync(file).size;
}

const uproar = await Uproar.start({ "aggregator.interval_ms": 1000 });
const browser = await chromium();
const dir = mkdtempSync(join(tmpdir(), "uproar-capture-"));
const people = crowd(uproar, ROOM, { seed: SEED, perSecond: 1500 });
try {
  const page = await browser.open("about:blank", VIEW);
  await page.driver.addInitScript(`Math.random = (${seeded})(${SEED})`);
  await page.goto(`${uproar.url}/rooms/${ROOM}`);
  await page.until("document.getElementById('total').textContent.length > 5");
  spread(await record(page), dir);
  let quality = 70;
  while (encode(dir, quality) > BYTES_MAX) {
    quality -= 10;
    if (quality < 20 || file.endsWith(".gif")) throw new Error(`${file} is larger than ${BYTES_MAX} bytes`);
  }
  console.log(`${file}: ${statSync(file).size} bytes, quality ${quality}`);
} finally {
  people.stop();
  await browser.close();
  await uproar.stop();
  rmSync(dir, { recursive: true, force: true });
}
