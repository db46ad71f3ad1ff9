// The real binary, a proxy that can refuse, and a server of static files. All of them on 127.0.0.1.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const web = fileURLToPath(new URL("../..", import.meta.url));
export const PATIENCE_MS = 20_000;

const target = process.env.CARGO_TARGET_DIR || join(web, "../target");
export const UPROAR = process.env.UPROAR_BIN || join(target, "debug/uproar");

/** Why a test can't run here, or false. In CI that is a failure, not a skip. */
export function missing(...programs) {
  const lacks = programs.filter((program) => !existsSync(program));
  if (!lacks.length) return false;
  if (process.env.UPROAR_NO_SKIP) throw new Error(`missing: ${lacks.join(", ")}`);
  return `missing: ${lacks.join(", ")}`;
}

/** Waits until `look` gives something. What it throws is told when the patience ends. */
export async function until(what, look) {
  const end = Date.now() + PATIENCE_MS;
  let error = "";
  while (Date.now() < end) {
    try {
      const found = await look();
      if (found) return found;
    } catch (thrown) {
      error = thrown;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`not within ${PATIENCE_MS} ms: ${what} ${error}`);
}

function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** `uproar all` with short windows. It keeps its ports and its data over restarts. */
export class Uproar {
  /** `settings`: configuration keys with their values. */
  static async start(settings = {}) {
    const uproar = new Uproar();
    uproar.settings = settings;
    uproar.dir = mkdtempSync(join(tmpdir(), "uproar-web-"));
    [uproar.port, uproar.mqtt, uproar.admin] = [await freePort(), await freePort(), await freePort()];
    uproar.url = `http://127.0.0.1:${uproar.port}`;
    await uproar.run();
    return uproar;
  }

  async run() {
    const sets = {
      "ingest.listen": `127.0.0.1:${this.port}`,
      "fanout.mqtt.listen": `127.0.0.1:${this.mqtt}`,
      "service.admin_listen": `127.0.0.1:${this.admin}`,
      "log.embedded.dir": join(this.dir, "data"),
      "aggregator.interval_ms": 500,
      "fanout.reconnect_jitter_ms": 500,
      "fanout.drain_ms": 200,
      ...this.settings,
    };
    const text = (value) => (typeof value === "object" ? JSON.stringify(value) : value);
    const args = Object.entries(sets).flatMap(([key, value]) => ["--set", `${key}=${text(value)}`]);
    const log = openSync(join(this.dir, "log"), "a");
    this.child = spawn(UPROAR, ["all", ...args], { stdio: ["ignore", log, log] });
    const { child } = this;
    const isReady = async () => (await fetch(`http://127.0.0.1:${this.admin}/readyz`)).ok;
    await until("uproar is ready", () => child.exitCode !== null || isReady());
    if (child.exitCode !== null) throw new Error(String(readFileSync(join(this.dir, "log"))));
  }

  get hasEnded() {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  async end(signal) {
    if (this.hasEnded) return;
    const ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.kill(signal);
    await ended;
  }

  /** Posts reactions as a crowd would, and gives the answer's status. */
  async post(room, reactions) {
    const body = JSON.stringify({ reactions });
    const headers = { "content-type": "application/json" };
    return (await fetch(`${this.url}/v1/rooms/${room}/reactions`, { method: "POST", headers, body })).status;
  }

  async total(room) {
    const answer = await fetch(`${this.url}/v1/rooms/${room}`);
    return answer.ok ? (await answer.json()).total : 0;
  }

  async stop() {
    await this.end("SIGKILL");
    rmSync(this.dir, { recursive: true, force: true });
  }
}

const TYPES = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".m3u8": "application/vnd.apple.mpegurl",
  ".svg": "image/svg+xml",
};

function listen(server) {
  const sockets = new Set();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const stop = () => {
        sockets.forEach((socket) => socket.destroy());
        return new Promise((done) => server.close(done));
      };
      resolve({ url: `http://127.0.0.1:${server.address().port}`, stop });
    });
  });
}

/** The files of web/, from an origin that is not Uproar's. `routes` answers some paths itself. */
export function serveFiles(routes = {}) {
  const server = http.createServer((request, response) => {
    const path = normalize(new URL(request.url, "http://x").pathname);
    if (routes[path]) return routes[path](request, response);
    const file = join(web, path);
    if (!existsSync(file)) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": TYPES[extname(file)] || "application/octet-stream" });
    response.end(readFileSync(file));
  });
  return listen(server);
}

/** Passes everything on to Uproar, but for the kinds in `refused`: "socket", "events". It counts what it saw of each. */
export async function serveProxy(port) {
  const seen = { socket: 0, events: 0, snapshot: 0, post: 0 };
  const refused = new Set();
  const kindOf = ({ url, method }) => {
    if (url.endsWith("/events")) return "events";
    return method === "GET" ? "snapshot" : "post";
  };
  const server = http.createServer((request, response) => {
    const kind = kindOf(request);
    seen[kind] += 1;
    if (refused.has(kind)) return response.writeHead(503, { "access-control-allow-origin": "*" }).end();
    pass(request, response, port);
  });
  server.on("upgrade", (request, socket, head) => {
    seen.socket += 1;
    if (refused.has("socket")) return socket.end("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    const onward = net.connect(port, "127.0.0.1", () => {
      const lines = [`${request.method} ${request.url} HTTP/1.1`];
      for (let i = 0; i < request.rawHeaders.length; i += 2) lines.push(request.rawHeaders.slice(i, i + 2).join(": "));
      onward.write(lines.join("\r\n") + "\r\n\r\n");
      onward.write(head);
      socket.pipe(onward).pipe(socket);
    });
    onward.on("error", () => socket.destroy());
    socket.on("error", () => onward.destroy());
  });
  return { ...(await listen(server)), seen, refused };
}

/** Passes a request on to another port of this machine. */
function pass(request, response, port) {
  const { method, url: path, headers } = request;
  const onward = http.request({ host: "127.0.0.1", port, method, path, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  onward.on("error", () => response.destroy());
  response.on("close", () => onward.destroy());
  request.pipe(onward);
}

const DESK_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: https:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

/** The desk: that of the admin listener, or its files in front of the admin listener where that serves none. */
export async function serveDesk({ port, admin }) {
  const url = `http://127.0.0.1:${admin}`;
  if ((await fetch(`${url}/`)).ok) return { url, stop: () => {} };
  const assets = (path) => readFileSync(join(web, path.replace(/^\/assets\/dev\//, "")));
  const server = http.createServer((request, response) => {
    const path = normalize(new URL(request.url, "http://x").pathname);
    if (path === "/") {
      const page = String(assets("pages/desk.html")).replaceAll("{{revision}}", "dev");
      response.writeHead(200, { "content-type": TYPES[".html"], "content-security-policy": DESK_POLICY }).end(page);
    } else if (path.startsWith("/assets/dev/")) {
      response.writeHead(200, { "content-type": TYPES[extname(path)] }).end(assets(path));
    } else pass(request, response, path.startsWith("/v1/") ? port : admin);
  });
  return listen(server);
}
