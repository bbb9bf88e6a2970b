// Chromium for the tests: a page that notes what it must not do, and waiting for facts.

import { accessSync, constants } from "node:fs";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { delimiter, resolve } from "node:path";
import { LIMIT } from "./eventually.mjs";

export { eventually } from "./eventually.mjs";

// Installed by `.ci/tools browser` beside the build, not beside the tests.
const require = createRequire(new URL("../../target/browser/", import.meta.url));
const { chromium } = require("playwright-core");
const AXE = require.resolve("axe-core/axe.min.js");

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update"];

/** The path of a program on the PATH. */
function which(program) {
  for (const folder of program.includes("/") ? [""] : process.env.PATH.split(delimiter)) {
    const path = resolve(folder, program);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // The next folder may have it.
    }
  }
  throw new Error(`${program} is not on the PATH`);
}

export function launch() {
  return chromium.launch({ executablePath: which(process.env.CHROMIUM ?? "chromium"), args: FLAGS });
}

/** Opens `url` in a fresh profile. `faults` gets errors, CSP violations and requests to other origins. */
export async function visit(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(LIMIT);
  const faults = [];
  const origin = new URL(url).origin;
  page.on("pageerror", (error) => faults.push(`error: ${error.stack}`));
  page.on("request", (request) => {
    const target = new URL(request.url());
    if (target.protocol !== "data:" && target.origin !== origin) faults.push(`request to ${request.url()}`);
  });
  await page.addInitScript(() => addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI, sourceFile, lineNumber }) => {
    (globalThis.violations ??= []).push(`${violatedDirective} ${blockedURI} ${sourceFile}:${lineNumber}`);
  }));
  await page.goto(url);
  return Object.assign(page, { faults, violations: () => page.evaluate(() => globalThis.violations ?? []) });
}

/** Violations of the accessibility rules of axe, of any impact. */
export async function violationsOfAxe(page) {
  // Evaluated by the debugger, which the CSP does not bind.
  await page.evaluate(await readFile(AXE, "utf8"));
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 3).map(({ html, failureSummary }) => `${html} ${failureSummary}`).join(" | ")}`);
}

export const text = (page, selector) => page.locator(selector).innerText();
