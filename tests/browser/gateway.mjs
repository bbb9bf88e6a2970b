// The gateway under test: $MOONGATE, or the debug build.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Child } from "./child.mjs";
import { eventually } from "./eventually.mjs";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url));
export const MOONGATE = process.env.MOONGATE ?? join(ROOT, "target/debug/moongate");

/** A running gateway with a listener `web` and an admin address. Ports of `yaml` should be 0. */
export class Gateway {
  #folder = mkdtempSync(join(tmpdir(), "moongate-"));
  #child;
  #token;

  /** `token` is that of the admin address, if it has one. */
  static async start(yaml, token = null) {
    const gateway = new Gateway(yaml, token);
    gateway.web = `http://${await gateway.#address("web")}`;
    gateway.admin = `http://${await gateway.#address("admin")}`;
    return gateway;
  }

  constructor(yaml, token) {
    this.#token = token;
    this.write(yaml);
    this.#child = new Child("the gateway", MOONGATE, ["run", "-c", this.#file]);
  }

  get log() {
    return this.#child.log;
  }

  get #file() {
    return join(this.#folder, "moongate.yaml");
  }

  /** Replaces the configuration, which is not loaded yet. */
  write(yaml) {
    writeFileSync(this.#file, yaml);
  }

  async #address(listener) {
    const [, address] = await this.#child.match(new RegExp(`listening name=${listener} address=(\\S+)`));
    return address;
  }

  async status() {
    return (await this.call("GET", "/api/v1/status")).json();
  }

  /** A call of the admin API that must succeed. */
  async call(method, path) {
    const headers = this.#token ? { authorization: `Bearer ${this.#token}` } : {};
    const response = await fetch(this.admin + path, { method, headers });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return response;
  }

  /** Replaces the configuration by SIGHUP and waits for its generation. */
  async reload(yaml) {
    const { generation } = await this.status();
    this.write(yaml);
    this.#child.signal("SIGHUP");
    await eventually("the reload", async () => (await this.status()).generation > generation);
  }

  /** Kills the process: its clients need no graceful shutdown. */
  async end() {
    await this.#child.end("SIGKILL");
    rmSync(this.#folder, { recursive: true });
  }
}
