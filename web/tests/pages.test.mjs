// The viewer page and the lobby in Chromium against the real binary, under its Content-Security-Policy.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ELEMENT, FOCUSED, LIVE, PHONE, open, openLobby, pages, tap, total, untilRenewed, uproar } from "./real/pages.mjs";
import { until } from "./real/server.mjs";

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
    const page = await openLobby();
    const link = "document.querySelector('#busiest a[href=\"/rooms/lobby-keys\"]')";
    await untilRenewed(page, `Boolean(${link})`);
    const seen = await walk(page, 4);
    assert.deepEqual(seen.slice(0, 3).map((one) => one.text), ["Uproar", "name", "Watch"]);
    for (const { text, isSeen } of seen) assert.ok(isSeen, text);
    await page.evaluate(`void (${link}.focus(), window.old = ${link})`);
    await uproar.post("lobby-keys", { "🔥": 3 });
    await untilRenewed(page, `${link} !== old`);
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
    const page = await openLobby();
    const state = "document.getElementById('state')";
    await page.until(`${state}.hidden`);
    await uproar.end("SIGKILL");
    await untilRenewed(page, `!${state}.hidden && ${state}.textContent === 'reconnecting'`);
    await uproar.run();
    await untilRenewed(page, `${state}.hidden`);
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
    const page = await open("/rooms/refused", PHONE);
    await page.until(LIVE);
    const detail = "<img src=x onerror=alert(1)> " + "long ".repeat(20) + "x".repeat(64);
    await page.evaluate(`${ELEMENT}._onLimits({ status: 422, dropped: { a: 1 }, detail: ${JSON.stringify(detail)} })`);
    const note = `${ELEMENT}.shadowRoot.querySelector('.note')`;
    assert.deepEqual(await page.evaluate(`[${note}.textContent, ${note}.children.length]`), [detail, 0]);
    const { left, right } = await page.evaluate(`${note}.getBoundingClientRect().toJSON()`);
    assert.ok(left >= 0 && right <= PHONE.viewport.width, `${left} to ${right}`);
  });
});
