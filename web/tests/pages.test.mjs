// The pages, the overlay and the element in Chromium against the real binary, under its Content-Security-Policy.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import http from "node:http";
import { after, afterEach, before, describe, test } from "node:test";
import { brotliDecompressSync, gunzipSync } from "node:zlib";
import { CHROMIUM, FIREFOX, chromium, firefox } from "./real/browsers.mjs";
import { UPROAR, Uproar, missing, serveDesk, serveFiles, until } from "./real/server.mjs";

const skip = missing(UPROAR, CHROMIUM);
const PHONE = { viewport: { width: 390, height: 780 } };
let uproar, browser, opened;

before(async () => {
  if (skip) return;
  uproar = await Uproar.start();
  browser = await chromium();
});

after(async () => {
  if (browser) await browser.close();
  if (uproar) await uproar.stop();
});

/** Opens a page whose scripts may throw no error, and which may ask for nothing that its policy refuses. */
async function open(path, options) {
  const page = await browser.open(path.startsWith("/") ? uproar.url + path : path, options);
  opened.push(page);
  return page;
}

function pages(name, body) {
  describe(name, { skip }, () => {
    before(() => (opened = []));
    // A test that failed while the server was away must not fail the others.
    afterEach(() => uproar.hasEnded && uproar.run());
    after(async () => {
      for (const page of opened) {
        assert.deepEqual(page.errors, []);
        await page.driver.close();
      }
    });
    body();
  });
}

const LIVE = "document.getElementById('state').textContent === 'live'";
const ELEMENT = "document.querySelector('uproar-reactions')";
const tap = (page, place) => page.driver.locator(".button").nth(place).click();
const total = (n) => `document.getElementById('total').textContent === '${n}'`;
/** The element with the focus, also inside the custom element. */
const FOCUSED = `(() => {
  let found = document.activeElement;
  while (found.shadowRoot && found.shadowRoot.activeElement) found = found.shadowRoot.activeElement;
  return found;
})()`;

pages("the viewer page", () => {
  test("two browsers tap: each sees the swarm, and both totals rise", async () => {
    const [one, other] = [await open("/rooms/final"), await open("/rooms/final", PHONE)];
    for (const page of [one, other]) await page.until(LIVE);
    await tap(one, 0);
    await one.until(`${ELEMENT}.stage.stats.live > 0`);
    await other.until(`${ELEMENT}.stage.stats.live > 0 && ${total(1)}`);
    await tap(other, 1);
    for (const page of [one, other]) await page.until(total(2));
    const rows = "[...document.querySelectorAll('#totals li')].map((row) => row.textContent).sort().join()";
    assert.equal(await one.evaluate(rows), "❤️1,🔥1");
    assert.equal(await one.evaluate("document.title"), "final · Uproar");
  });

  test("an own tap is shown at once, and not again with the crowd's frame", async () => {
    const page = await open("/rooms/own");
    await page.until(LIVE);
    await tap(page, 0);
    assert.equal(await page.evaluate(`${ELEMENT}.stage.stats.live`), 1, "at once");
    await page.evaluate(`void (window.most = 0, window.watch = setInterval(() => {
      most = Math.max(most, ${ELEMENT}.stage.stats.live);
    }, 5))`);
    await page.until(`${total(1)} && ${ELEMENT}.stage.stats.live === 0`);
    assert.equal(await page.evaluate("most"), 1);
  });

  test("the server is killed and started again: page and overlay recover without a reload", async () => {
    const [page, other] = [await open("/rooms/kill"), await open("/rooms/kill")];
    const overlay = await open("/overlay/kill?skin=bars");
    for (const one of [page, other]) await one.until(LIVE);
    await tap(page, 0);
    for (const one of [page, other]) await one.until(total(1));
    for (const one of [page, other, overlay]) await one.evaluate("void (window.marker = 'not loaded again')");
    await uproar.end("SIGKILL");
    for (const one of [page, other]) await one.until("document.getElementById('state').textContent === 'reconnecting'");
    assert.match(await page.evaluate(`${ELEMENT}.shadowRoot.querySelector('.note').textContent`), /Reconnecting/);
    await uproar.run();
    for (const one of [page, other]) await one.until(LIVE);
    await tap(other, 0);
    for (const one of [page, other]) await one.until(`${total(2)} && window.marker`);
    await overlay.until("document.querySelector('.number').textContent === '2' && window.marker");
    assert.equal(await page.evaluate(`${ELEMENT}.shadowRoot.querySelector('.note').hidden`), true);
  });

  test("a name that can't be a room: the page says so, and shows it as text", async () => {
    const page = await open("/");
    for (const name of ["<img src=x onerror=alert(1)>", "‮evil", "a b", "x".repeat(65), "%FF"]) {
      await page.goto(`${uproar.url}/rooms/${name === "%FF" ? name : encodeURIComponent(name)}`);
      await page.until("!document.getElementById('wrong').hidden");
      assert.ok((await page.evaluate("document.getElementById('wrong').textContent")).includes(name), name);
      assert.equal(await page.evaluate("document.querySelectorAll('main img').length"), 0);
      assert.equal(await page.evaluate("document.getElementById('lobby').hidden"), false);
    }
  });

  test("reduced motion: counters that grow, and no swarm", async () => {
    const page = await open("/rooms/calm", { reducedMotion: "reduce" });
    await page.until(LIVE);
    await tap(page, 0);
    const counter = `${ELEMENT}.shadowRoot.querySelector('.uproar-counters .number')`;
    await page.until(`${counter} && ${counter}.textContent === '1'`);
    await tap(page, 0);
    await page.until(`${counter}.textContent === '2'`);
    assert.equal(await page.evaluate(`${ELEMENT}.shadowRoot.querySelector('canvas')`), null);
  });

  test("dark and light are what the system asks for", async () => {
    const shades = [];
    for (const colorScheme of ["dark", "light"]) {
      const page = await open("/rooms/shade", { colorScheme });
      const ink = `getComputedStyle(${ELEMENT}.shadowRoot.querySelector('.button')).color`;
      shades.push(await page.evaluate(`[getComputedStyle(document.body).color, ${ink}].join()`));
    }
    assert.notEqual(shades[0], shades[1]);
  });

  test("right-to-left: sums stand on the left, bars grow from the right", async () => {
    const page = await open("/rooms/final");
    await page.evaluate("document.documentElement.dir = 'rtl'");
    await page.until(`${LIVE} && document.querySelector('#totals .bar')`);
    const { sums, live, bar } = await page.evaluate(`({
      sums: document.querySelector('.sums').getBoundingClientRect().left,
      live: document.querySelector('.live').getBoundingClientRect().left,
      bar: getComputedStyle(document.querySelector('#totals .bar')).backgroundPositionX,
    })`);
    assert.ok(sums < live);
    assert.match(bar, /100%|right/);
    await page.evaluate(`void (${ELEMENT}.setAttribute('skin', 'bars'))`);
    const inElement = `${ELEMENT}.shadowRoot.querySelector('.uproar-bars .bar')`;
    await page.until(`${inElement} && /100%|right/.test(getComputedStyle(${inElement}).backgroundPositionX)`);
    const isWide = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
    assert.equal(await page.evaluate(isWide), false, "nothing sticks out");
  });
});

pages("the keyboard alone", () => {
  /** Presses Tab until the focus has gone once around; gives what had it, and whether it was to be seen. */
  async function walk(page, steps) {
    const seen = [];
    for (let i = 0; i < steps; i++) {
      await page.driver.keyboard.press("Tab");
      seen.push(await page.evaluate(`(() => {
        const at = ${FOCUSED}, style = getComputedStyle(at);
        return { text: at.textContent.trim() || at.id, isSeen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 };
      })()`));
    }
    return seen;
  }

  test("Tab reaches every button of a room with the focus to be seen; Enter and Space react", async () => {
    const page = await open("/rooms/keys");
    await page.until(`${LIVE} && ${ELEMENT}.shadowRoot.querySelectorAll('.button').length === 6`);
    const seen = await walk(page, 7);
    assert.deepEqual(seen.map((one) => one.text), ["Uproar", "❤️", "🔥", "👏", "😂", "😮", "😢"]);
    for (const { text, isSeen } of seen) assert.ok(isSeen, text);
    await page.driver.keyboard.press("Enter");
    await page.driver.keyboard.press("Shift+Tab");
    await page.driver.keyboard.press("Space");
    await page.until(total(2));
    assert.deepEqual(Object.keys((await (await fetch(`${uproar.url}/v1/rooms/keys`)).json()).totals).sort(), ["😢", "😮"]);
  });

  test("Tab reaches the lobby's field, button and rooms, and a new list does not take the focus", async () => {
    await uproar.post("lobby-keys", { "🔥": 3 });
    const page = await open("/");
    const link = "document.querySelector('#busiest a[href=\"/rooms/lobby-keys\"]')";
    await page.until(link);
    const seen = await walk(page, 4);
    assert.deepEqual(seen.slice(0, 3).map((one) => one.text), ["Uproar", "name", "Watch"]);
    for (const { text, isSeen } of seen) assert.ok(isSeen, text);
    await page.evaluate(`void (${link}.focus(), window.old = ${link})`);
    await uproar.post("lobby-keys", { "🔥": 3 });
    await page.until(`${link} !== old`);
    assert.equal(await page.evaluate(`document.activeElement === ${link}`), true);
    await page.driver.keyboard.press("Enter");
    await page.until("location.pathname === '/rooms/lobby-keys'");
  });
});

pages("the lobby", () => {
  test("takes a name to its room, and refuses one that is none", async () => {
    const page = await open("/");
    for (const wrong of ["a/b", "..", "<b>"]) {
      await page.driver.fill("#name", wrong);
      await page.driver.press("#name", "Enter");
      await page.until("!document.getElementById('wrong').hidden");
      assert.ok((await page.evaluate("document.getElementById('wrong').textContent")).includes(wrong));
      assert.equal(await page.evaluate("location.pathname"), "/");
    }
    await page.driver.fill("#name", "semi-final");
    await page.driver.press("#name", "Enter");
    await page.until("location.pathname === '/rooms/semi-final'");
  });

  test("says when the server is away, and goes on when it is back", async () => {
    const page = await open("/");
    const state = "document.getElementById('state')";
    await page.until(`${state}.hidden`);
    await uproar.end("SIGKILL");
    await page.until(`!${state}.hidden && ${state}.textContent === 'reconnecting'`);
    await uproar.run();
    await page.until(`${state}.hidden`);
  });
});

pages("what strangers wrote", () => {
  const HOSTILE = ["<img src=x onerror=alert(1)>", "</span><b>bold</b>", "&lt;i&gt;", "'\"`{{x}}", "constructor", "__proto__", "‏abc‮cba"];
  const LONG = "é".repeat(32);

  test("reactions are text in every skin, the lobby and the desk: no element is made of them", async () => {
    const taken = [];
    for (const reaction of [...HOSTILE, LONG]) if ((await uproar.post("hostile", { [reaction]: 5 })) === 202) taken.push(reaction);
    assert.ok(taken.length >= 5, String(taken));
    await until("they are counted", async () => (await uproar.total("hostile")) === 5 * taken.length);
    // A server may leave out what can't be seen; what it shows is what has to stand on the page.
    const { totals } = await (await fetch(`${uproar.url}/v1/rooms/hostile`)).json();
    const wanted = Object.keys(totals).sort();
    const rows = (root) => `[...${root}.querySelectorAll('.reaction')].map((one) => one.textContent).sort()`;
    const clean = (root) => `${root}.querySelectorAll('b, i, img').length === 0`;
    for (const skin of ["bars", "cards", "counters"]) {
      const overlay = await open(`/overlay/hostile?top=20&skin=${skin}`);
      await overlay.until(`${rows("document")}.length === ${wanted.length}`);
      assert.deepEqual(await overlay.evaluate(rows("document")), wanted);
      assert.ok(await overlay.evaluate(clean("document")));
    }
    const room = await open("/rooms/hostile?skin=swarm");
    await room.until(LIVE);
    assert.equal(await uproar.post("hostile", Object.fromEntries(taken.map((name) => [name, 2]))), 202);
    await room.until(`${ELEMENT}.stage.stats.live > 0 && ${rows("document.getElementById('totals')")}.length > 0`);
    for (const root of ["document.getElementById('watch')", `${ELEMENT}.shadowRoot`]) assert.ok(await room.evaluate(clean(root)));
    const lobby = await open("/");
    await lobby.until("document.querySelector('#busiest bdi')");
    assert.equal(await lobby.evaluate("document.querySelectorAll('#busiest img, #busiest .top b').length"), 0);
  });

  test("a name of 64 bytes fits the page, on a phone too", async () => {
    const name = "A".repeat(32) + "._~-".repeat(8);
    assert.equal(await uproar.post(name, { "🔥": 1 }), 202);
    for (const path of [`/rooms/${name}`, "/"]) {
      const page = await open(path, PHONE);
      await page.until(`document.body.textContent.includes('${name}')`);
      assert.equal(await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"), false, path);
    }
  });

  test("a screen reader is told at most every 10 s, and as text", async () => {
    const page = await open("/rooms/told");
    await page.until(LIVE);
    const told = `${ELEMENT}.shadowRoot.querySelector('[aria-live=polite]')`;
    const tell = (count) => `(${ELEMENT}._tell({ count: ${count}, counts: { '<b>x</b>': ${count} } }), [${told}.textContent, ${told}.children.length])`;
    assert.deepEqual(await page.evaluate(tell(3)), ["3 reactions: <b>x</b> 3", 0]);
    await page.evaluate("void (window.now = Date.now, Date.now = () => now() + 9000)");
    assert.deepEqual(await page.evaluate(tell(4)), ["3 reactions: <b>x</b> 3", 0]);
    await page.evaluate("void (Date.now = () => now() + 20000)");
    assert.deepEqual(await page.evaluate(tell(5)), ["5 reactions: <b>x</b> 5", 0]);
  });

  test("a refusal's detail is text", async () => {
    const page = await open("/rooms/refused");
    await page.until(LIVE);
    await page.evaluate(`${ELEMENT}._onLimits({ status: 422, dropped: { a: 1 }, detail: "<img src=x onerror=alert(1)>" })`);
    const note = `${ELEMENT}.shadowRoot.querySelector('.note')`;
    assert.deepEqual(await page.evaluate(`[${note}.textContent, ${note}.children.length]`), ["<img src=x onerror=alert(1)>", 0]);
  });
});

pages("the overlay", () => {
  test("shows the same numbers as the page, on a transparent ground", async () => {
    await uproar.post("air", { "🔥": 7, "👏": 2, GOAL: 1 });
    const [page, overlay] = [await open("/rooms/air"), await open("/overlay/air?skin=bars&scale=1.5")];
    await page.until(total(10));
    const rows = (root) => `[...document.querySelectorAll('${root} li')].map((row) => row.textContent).join()`;
    await overlay.until(`${rows("#stage")} !== ''`);
    assert.equal(await overlay.evaluate(rows("#stage")), "🔥7,👏2,GOAL1");
    assert.equal(await page.evaluate(rows("#totals")), "🔥7,👏2,GOAL1");
    assert.equal(await overlay.evaluate("getComputedStyle(document.body).backgroundColor"), "rgba(0, 0, 0, 0)");
    assert.equal(await overlay.evaluate("getComputedStyle(document.getElementById('stage')).fontSize"), "33px");
  });

  test("draws the swarm, and says what can't be a room", async () => {
    const overlay = await open("/overlay/swarm");
    await overlay.until("document.querySelector('canvas')");
    const blank = "document.querySelector('canvas').getContext('2d').getImageData(0, 0, innerWidth, innerHeight).data.every((n) => !n)";
    await until("the swarm is drawn", async () => {
      await uproar.post("swarm", { "🔥": 200 });
      return !(await overlay.evaluate(blank));
    });
    for (const wrong of ["a%20b", "%FF"]) {
      const page = await open(`/overlay/${wrong}`);
      await page.until("document.getElementById('stage').textContent.includes('is no room')");
    }
  });
});

pages("the desk", () => {
  let desk;
  before(async () => (desk = await serveDesk(uproar)));
  after(() => desk.stop());

  test("shows the rooms and numbers of the page, and recovers when the server was away", async () => {
    await uproar.post("desk", { "🔥": 30, "<b>x</b>": 12 });
    await until("it is counted", async () => (await uproar.total("desk")) === 42);
    const page = await open(`${desk.url}/#desk`);
    await page.until("document.getElementById('ready').textContent === 'ready'");
    await page.until("document.getElementById('room-facts').textContent.startsWith('42 reactions')");
    const row = "[...document.querySelectorAll('#rooms tbody tr')].find((row) => row.textContent.startsWith('desk'))";
    assert.equal(await page.evaluate(`${row}.cells[2].textContent`), "42");
    await until("the charts have lines", async () => {
      await uproar.post("charts", { "🔥": 1 });
      return page.evaluate("document.querySelectorAll('#charts canvas').length >= 4");
    });
    assert.equal(await page.evaluate("document.querySelectorAll('main b, main img').length"), 0);
    await page.until("document.querySelector('#room-chart .u-legend').textContent.includes('<b>x</b>')");
    await uproar.end("SIGKILL");
    await page.until("document.getElementById('ready').textContent === 'no answer'");
    await uproar.run();
    await page.until("document.getElementById('ready').textContent === 'ready'");
    await page.evaluate("document.querySelector('#rooms button').focus()");
    const outline = `getComputedStyle(${FOCUSED}).outlineStyle`;
    await page.driver.keyboard.press("Tab");
    assert.notEqual(await page.evaluate(outline), "none");
  });
});

pages("the desk of a process in trouble", () => {
  test("says why it is not ready, as text, and hides a configuration that it may not see", async () => {
    const desk = await serveDesk(uproar);
    const page = await open("about:blank");
    const [reasons, config] = ["log: <b>no broker</b>\nstart: waits\n", "[ingest]\n# <i>x</i>\n"];
    await page.driver.route("**/readyz", (route) => route.fulfill({ status: 503, body: reasons }));
    await page.driver.route("**/admin/v1/config", (route) => route.fulfill({ status: 200, body: config }));
    // A fragment that is not percent-encoded right names no room.
    await page.goto(`${desk.url}/#%FF`);
    await page.until("document.getElementById('ready').textContent === 'not ready'");
    const list = "[...document.querySelectorAll('#reasons li')].map((one) => one.textContent)";
    assert.deepEqual(await page.evaluate(list), ["log: <b>no broker</b>", "start: waits"]);
    await page.until("document.getElementById('config').textContent !== ''");
    assert.equal(await page.evaluate("document.getElementById('config').textContent"), config);
    assert.equal(await page.evaluate("document.querySelectorAll('#reasons b, #config i').length"), 0);
    await page.driver.route("**/admin/v1/config", (route) => route.fulfill({ status: 404 }));
    await page.driver.reload();
    await page.until("document.getElementById('configuration').hidden");
    await desk.stop();
  });
});

pages("pages of other sites", () => {
  let site;
  const embedded = readFileSync(new URL("fixtures/embed.html", import.meta.url), "utf8");
  const html = (text) => (request, response) => response.writeHead(200, { "content-type": "text/html" }).end(text());

  before(async () => {
    const frame = `<!doctype html><iframe src="SERVER/rooms/framed"></iframe>`;
    site = await serveFiles({
      "/embed.html": html(() => embedded.replaceAll("SERVER", uproar.url)),
      "/frame.html": html(() => frame.replaceAll("SERVER", uproar.url)),
      "/allowed.html": html(() => frame.replaceAll("SERVER", allowing.url)),
    });
  });
  after(() => site.stop());

  let allowing;
  test("three lines on another origin react and show", async () => {
    assert.equal(embedded.trim().split("\n").length, 3);
    const page = await open(`${site.url}/embed.html`);
    await page.until(`${ELEMENT}.room && ${ELEMENT}.room.state === 'live'`);
    const sheet = await page.evaluate(`getComputedStyle(${ELEMENT}.shadowRoot.querySelector('.bar')).display`);
    assert.equal(sheet, "flex", "the style sheet of the other origin applies");
    await tap(page, 1);
    await page.until(`${ELEMENT}.stage.stats.live > 0`);
    await page.until(`${ELEMENT}.room.frame && ${ELEMENT}.room.frame.totals['🔥'] === 1`);
  });

  test("the same in Firefox", { skip: missing(FIREFOX) }, async () => {
    const other = await firefox();
    try {
      const page = await other.open(`${site.url}/embed.html`);
      await page.until(`${ELEMENT}.room && ${ELEMENT}.room.state === 'live' && ${ELEMENT}.room.react('🔥')`);
      await page.until(`${ELEMENT}.stage.stats.live > 0`);
      await page.evaluate(`(document.documentElement.dir = 'rtl', ${ELEMENT}.setAttribute('skin', 'bars'))`);
      const bar = `${ELEMENT}.shadowRoot.querySelector('.uproar-bars .bar')`;
      await page.until(`${bar} && /100%|right/.test(getComputedStyle(${bar}).backgroundPosition)`);
    } finally {
      await other.close();
    }
  });

  test("the element takes attributes that come later, and another room", async () => {
    const page = await open(`${site.url}/embed.html`);
    await page.evaluate(`(() => {
      window.late = document.createElement('uproar-reactions');
      late.setAttribute('server', '${uproar.url}');
      late.setAttribute('reactions', '🎉 GO');
      document.body.appendChild(late);
      late.setAttribute('room', 'no room');
    })()`);
    await page.until("late.shadowRoot.querySelector('.note').textContent.includes('is no room')");
    await page.evaluate("late.setAttribute('room', 'late')");
    await page.until("late.room && late.room.state === 'live' && late.shadowRoot.querySelector('.note').hidden");
    assert.deepEqual(await page.evaluate("[...late.shadowRoot.querySelectorAll('.button')].map((one) => one.textContent)"), ["🎉", "GO"]);
    assert.equal(await page.evaluate("late.room.react('GO', 3), late.stage.stats.live"), 3, "taps of the page itself are shown");
    await page.evaluate("late.remove()");
    assert.equal(await page.evaluate("late.room"), null);
  });

  test("may not show our pages in a frame, unless fanout.frame_ancestors lists them", async () => {
    const shown = async (path) => {
      const page = await open(site.url + path);
      const [, frame] = page.driver.frames();
      await frame.waitForLoadState();
      page.errors = page.errors.filter((error) => !error.includes("frame-ancestors"));
      return frame.evaluate("Boolean(document.getElementById('watch'))").catch(() => false);
    };
    assert.equal(await shown("/frame.html"), false);
    allowing = await Uproar.start({ "fanout.frame_ancestors": [site.url] });
    assert.equal(await shown("/allowed.html"), true);
    await allowing.stop();
  });
});

describe("over HTTP", { skip }, () => {
  /** An answer as it is on the wire: fetch would decode it. */
  function get(path, headers = {}) {
    return new Promise((resolve, reject) => {
      const request = http.get(uproar.url + path, { headers }, (answer) => {
        const parts = [];
        answer.on("data", (part) => parts.push(part));
        answer.on("end", () => resolve({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(parts) }));
      });
      request.on("error", reject);
    });
  }

  test("brotli and gzip decode to the file, a tag saves the next answer, and the revision may be kept for ever", async () => {
    const page = String((await get("/")).body);
    const [script] = /\/assets\/[0-9a-f]+\/pages\/room\.js/.exec(page);
    const wanted = readFileSync(new URL("../pages/room.js", import.meta.url));
    for (const [coding, decode] of [["br", brotliDecompressSync], ["gzip", gunzipSync], ["identity", (body) => body]]) {
      const answer = await get(script, { "accept-encoding": coding });
      assert.equal(answer.headers["content-encoding"], coding === "identity" ? undefined : coding);
      assert.ok(decode(answer.body).equals(wanted), `${coding}: build the binary again?`);
      assert.match(answer.headers["cache-control"], /max-age=31536000, immutable/);
      assert.equal(answer.headers["x-content-type-options"], "nosniff");
      const again = await get(script, { "accept-encoding": coding, "if-none-match": answer.headers.etag });
      assert.deepEqual([again.status, again.body.length], [304, 0]);
    }
    for (const path of ["/", "/overlay/x", "/uproar.js"]) {
      const { headers } = await get(path);
      assert.equal((await get(path, { "if-none-match": headers.etag })).status, 304, path);
    }
  });

  test("fanout.web = false: neither pages nor scripts", async () => {
    const without = await Uproar.start({ "fanout.web": false });
    for (const path of ["/", "/rooms/final", "/overlay/final", "/uproar.js", "/uproar-reactions.js"]) {
      assert.equal((await fetch(without.url + path)).status, 404, path);
    }
    assert.equal(await without.post("final", { "🔥": 1 }), 202);
    await without.stop();
  });
});
