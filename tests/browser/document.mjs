// The live page as one document with its Content-Security-Policy, joined from its files as the gateway joins them.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

const FOLDER = new URL("../../src/server/admin/page/", import.meta.url);
const read = (name) => readFileSync(new URL(name, FOLDER), "utf8");
const hash = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

export const scriptNames = () => read("order.txt").split("\n").filter((name) => name !== "");

export function documentOfPage() {
  const style = read("style.css");
  const script = `(() => {\n"use strict";\n${scriptNames().map(read).join("")}})();\n`;
  const html = read("index.html").replace("/*STYLE*/", () => style).replace("/*SCRIPT*/", () => script);
  const policy = `default-src 'none'; style-src ${hash(style)}; script-src ${hash(script)}; connect-src 'self'; img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'`;
  return { html, policy, script, style };
}
