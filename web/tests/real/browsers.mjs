// Two browsers behind one small interface: open a page, evaluate an expression in it.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import WebSocket from "ws";
import { until } from "./server.mjs";

export const CHROMIUM = process.env.CHROMIUM || "/usr/bin/chromium";
export const FIREFOX = process.env.FIREFOX || "/usr/bin/firefox-esr";

const CHROMIUM_ARGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
  "--autoplay-policy=no-user-gesture-required",
];

class Page {
  constructor(evaluate, goto, driver) {
    this.evaluate = evaluate;
    this.goto = goto;
    /** Playwright's page, in Chromium. */
    this.driver = driver;
    /** Errors that the page's scripts threw, and what its Content-Security-Policy refused. */
    this.errors = [];
  }
  /** Waits until the expression is true in the page. */
  async until(expression) {
    try {
      return await until(expression, () => this.evaluate(expression));
    } catch (error) {
      const seen = await this.evaluate("JSON.stringify(window.seen)").catch(String);
      throw new Error(`${error.message}\n${seen}`);
    }
  }
}

export async function chromium() {
  const { chromium: driver } = await import("playwright-core");
  const ignoreDefaultArgs = ["--disable-back-forward-cache"];
  const browser = await driver.launch({ executablePath: CHROMIUM, args: CHROMIUM_ARGS, ignoreDefaultArgs });
  return {
    /** `options`: of Playwright's newPage, such as colorScheme, reducedMotion, viewport. */
    async open(url, options) {
      const driver = await browser.newPage(options);
      const page = new Page((expression) => driver.evaluate(expression), (to) => driver.goto(to), driver);
      driver.on("pageerror", (error) => page.errors.push(String(error)));
      driver.on("console", (message) => {
        if (message.text().includes("Content Security Policy")) page.errors.push(message.text());
      });
      await driver.goto(url);
      return page;
    },
    close: () => browser.close(),
  };
}

/** WebDriver BiDi (W3C), which Firefox speaks by itself. */
class Bidi {
  constructor(socket) {
    this.socket = socket;
    this.waiting = new Map();
    this.next = 1;
    socket.on("message", (text) => {
      const { id, type, result, message } = JSON.parse(text);
      const waiting = this.waiting.get(id);
      if (!waiting) return;
      this.waiting.delete(id);
      if (type === "success") waiting.resolve(result);
      else waiting.reject(new Error(message));
    });
  }
  static async connect(url) {
    const socket = await until(`${url} answers`, () => {
      return new Promise((resolve, reject) => {
        const candidate = new WebSocket(url);
        candidate.once("open", () => resolve(candidate));
        candidate.once("error", reject);
      });
    });
    return new Bidi(socket);
  }
  send(method, params) {
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.socket.send(JSON.stringify({ id, method, params }));
    });
  }
}

/* Firefox says on which port it listens. */
function portOf(child) {
  return new Promise((resolve, reject) => {
    let said = "";
    child.stderr.on("data", (data) => {
      said += data;
      const found = /WebDriver BiDi listening on (ws:\/\/\S+)/.exec(said);
      if (found) resolve(found[1]);
    });
    child.once("exit", () => reject(new Error(`firefox has ended: ${said}`)));
  });
}

export async function firefox() {
  const profile = mkdtempSync(join(tmpdir(), "uproar-firefox-"));
  const args = ["--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"];
  const env = { ...process.env, MOZ_CRASHREPORTER_DISABLE: "1", HOME: profile };
  const child = spawn(FIREFOX, args, { stdio: ["ignore", "ignore", "pipe"], env });
  const bidi = await Bidi.connect(`${await portOf(child)}/session`);
  await bidi.send("session.new", { capabilities: {} });
  return {
    async open(url) {
      const { context } = await bidi.send("browsingContext.create", { type: "tab" });
      const goto = (to) => bidi.send("browsingContext.navigate", { context, url: to, wait: "complete" });
      await goto(url);
      const evaluate = async (expression) => {
        const params = { expression: `JSON.stringify(${expression})`, target: { context }, awaitPromise: true };
        const { result, exceptionDetails } = await bidi.send("script.evaluate", params);
        if (exceptionDetails) throw new Error(exceptionDetails.text);
        return result.type === "string" ? JSON.parse(result.value) : undefined;
      };
      return new Page(evaluate, goto);
    },
    async close() {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      await Promise.race([bidi.send("browser.close", {}), ended]).catch(() => {});
      child.kill("SIGKILL");
      await ended;
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
