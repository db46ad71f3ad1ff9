// The overlay, the desk, the element on other sites, and what HTTP says of them; on the real binary.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import http from "node:http";
import { after, before, describe, test } from "node:test";
import { brotliDecompressSync, gunzipSync } from "node:zlib";
import { FIREFOX, firefox } from "./real/browsers.mjs";
import { ELEMENT, FOCUSED, LIVE, open, pages, skip, tap, total, uproar } from "./real/pages.mjs";
import { Uproar, missing, serveDesk, serveFiles, until } from "./real/server.mjs";

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
    await until("a third of the room's posts are refused", async () => {
      const bad = fetch(`${uproar.url}/v1/rooms/desk/reactions`, { method: "POST", body: "{}" });
      await Promise.all([bad, uproar.post("desk", { "🔥": 1 }), uproar.post("desk", { "🔥": 1 })]);
      const text = await page.evaluate("document.getElementById('room-posts').textContent");
      const share = / posts a second · ([0-9.]+)% of them refused$/.exec(text);
      return share && share[1] > 20 && share[1] < 50;
    });
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

pages("the desk's orders", () => {
  const token = "produce-token-0123";
  let own;
  before(async () => (own = await Uproar.start({ "admin.produce_token": token })));
  after(() => own.stop());
  const said = (text) => `document.getElementById('order-said').textContent.includes(${JSON.stringify(text)})`;
  const click = (id) => `document.getElementById('${id}').click()`;
  const unlock = (text) => `void (document.getElementById('token').value = '${text}', document.querySelector('#unlock button').click())`;

  test("close the room on the viewers' page, open it again, and slow it down; a wrong token is refused", async () => {
    await own.post("orders", { "🔥": 3 });
    await until("it is counted", async () => (await own.total("orders")) === 3);
    const viewer = await open(`${own.url}/rooms/orders`);
    await viewer.until(LIVE);
    const button = `${ELEMENT}.shadowRoot.querySelector('.bar button')`;
    await viewer.until(`${button} && !${button}.disabled`);
    const desk = await open(`http://127.0.0.1:${own.admin}/#orders`);
    await desk.until("!document.getElementById('unlock').hidden");
    await desk.evaluate(unlock("wrong-token-012345"));
    await desk.until(said("none of those that are configured"));
    await desk.evaluate(unlock(token));
    await desk.until("!document.getElementById('order-buttons').hidden");
    await desk.evaluate(click("close-room"));
    await desk.until(said("Closed."));
    await viewer.until(`${button}.disabled && document.getElementById('state').textContent === 'closed'`);
    assert.match(await viewer.evaluate(`${ELEMENT}.shadowRoot.querySelector('.note').textContent`), /closed/);
    assert.equal(await own.post("orders", { "🔥": 1 }), 403);
    await desk.until("document.getElementById('room-facts').textContent.endsWith('closed')");
    await desk.evaluate(click("open-room"));
    await desk.until(said("Open."));
    await viewer.until(`!${button}.disabled && document.getElementById('state').textContent === 'live'`);
    assert.equal(await own.post("orders", { "🔥": 1 }), 202);
    await desk.evaluate("void (document.getElementById('slow').value = '5000', document.getElementById('slow').dispatchEvent(new Event('change')))");
    await desk.until(said("every 5 s"));
    const late = await open(`${own.url}/rooms/orders`);
    await late.until(`${ELEMENT}.room && ${ELEMENT}.room.hello && ${ELEMENT}.room.hello.post_ms === 5000`);
    assert.equal(await desk.evaluate("sessionStorage.length"), 1);
    await desk.evaluate(click("lock"));
    assert.equal(await desk.evaluate("sessionStorage.length"), 0);
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
