// A child process whose output is a log. It is killed with this process at the latest.

import { spawn } from "node:child_process";
import { LIMIT, eventually } from "./eventually.mjs";

const running = new Set();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

export class Child {
  #child;
  #name;
  #exit;
  log = "";

  /** Starts `command` with `options` of node:child_process. */
  constructor(name, command, parameters, options = {}) {
    this.#name = name;
    this.#child = spawn(command, parameters, { ...options, stdio: ["ignore", "pipe", "pipe"] });
    running.add(this.#child);
    const append = (bytes) => (this.log += bytes);
    this.#child.stdout.setEncoding("utf8").on("data", append);
    this.#child.stderr.setEncoding("utf8").on("data", append);
    this.#exit = new Promise((resolve) => {
      this.#child.once("error", (error) => resolve(error.message));
      this.#child.once("close", (status, signal) => resolve(status ?? signal));
    });
    this.#exit.then(() => running.delete(this.#child));
  }

  get pid() {
    return this.#child.pid;
  }

  /** Waits until the log matches, and returns the match. */
  match(pattern) {
    return eventually(`${this.#name} prints ${pattern}`, () => {
      const found = this.log.match(pattern);
      if (!found && !running.has(this.#child)) throw new Error(`it has ended:\n${this.log}`);
      return found;
    });
  }

  signal(name) {
    this.#child.kill(name);
  }

  /** Sends a signal and waits for the end; returns the exit status or the signal that ended the process. */
  async end(name = "SIGTERM") {
    this.signal(name);
    let timer;
    const late = new Promise((resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`${this.#name} does not end:\n${this.log}`)), LIMIT);
    });
    try {
      return await Promise.race([this.#exit, late]);
    } finally {
      clearTimeout(timer);
    }
  }
}
