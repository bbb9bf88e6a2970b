// The images of docs/images/: NAME-light.png and NAME-dark.png for each view. `node images.mjs [ADMIN-URL]`
//
// Without a URL it runs `moongate demo` with the default configuration, whose ports must be free, and makes traffic for
// $TRAFFIC seconds (30). Histories of ten minutes are full after 600.

import { spawnSync } from "node:child_process";
import { mkdirSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { setTimeout } from "node:timers/promises";
import { Child } from "./child.mjs";
import { launch } from "./browser.mjs";
import { MOONGATE, ROOT } from "./gateway.mjs";

// The hash selects the view; the image is made when an element matches `ready`.
const VIEWS = [
  { name: "live-page", hash: "#overview", ready: "section.tile .value >> text=/[1-9]/" },
  { name: "live-page-upstreams", hash: "#upstreams", ready: "#endpoints tbody td.column-websockets >> text=/[1-9]/" },
];

const SCHEMES = ["light", "dark"];
const SIZE = { width: 1280, height: 800 };
const IMAGES = join(ROOT, "docs/images");

// Histories of the page need points.
const TRAFFIC = Number(process.env.TRAFFIC ?? 30) * 1000;
// ms between two rounds of requests and messages.
const ROUND = 100;
// ms. The first rates are of a part of a second.
const SETTLE = 3000;

/** Runs the demo with traffic of its own page until `body` has ended. */
async function withDemo(browser, body) {
  const demo = new Child("the demo", MOONGATE, ["demo", "-c", "conf/moongate.yaml"], { cwd: ROOT });
  try {
    const [, page] = await demo.match(/Moongate listens on (\S+)/);
    const [, admin] = await demo.match(/live page is\s+(\S+)/);
    const traffic = new Traffic();
    const ended = traffic.run(await browser.newPage(), page);
    await Promise.race([ended, setTimeout(TRAFFIC)]);
    await body(admin);
    traffic.stop();
    await ended;
  } finally {
    await demo.end("SIGINT");
  }
}

/** A visitor of the demo's page. */
class Traffic {
  #running = true;

  async run(visitor, page) {
    await visitor.goto(page);
    for (let number = 0; number < 3; number += 1) await visitor.click("#open");
    for (let round = 1; this.#running; round += 1) {
      await visitor.click("#one");
      await visitor.fill("#text", `message ${round}`);
      await visitor.press("#text", "Enter");
      await setTimeout(ROUND);
    }
    await visitor.close();
  }

  stop() {
    this.#running = false;
  }
}

async function shoot(browser, admin) {
  mkdirSync(IMAGES, { recursive: true });
  for (const colorScheme of SCHEMES) {
    const context = await browser.newContext({ viewport: SIZE, deviceScaleFactor: 1, colorScheme });
    for (const { name, hash, ready } of VIEWS) {
      // A new page for each view: a change of the hash alone loads nothing.
      const page = await context.newPage();
      await page.goto(new URL(hash, admin).href);
      await page.locator(ready).first().waitFor();
      await setTimeout(SETTLE);
      const path = join(IMAGES, `${name}-${colorScheme}.png`);
      await page.screenshot({ path, animations: "disabled" });
      compress(path);
      console.log(`${relative(ROOT, path)}: ${Math.ceil(statSync(path).size / 1024)} KiB`);
      await page.close();
    }
    await context.close();
  }
}

/** Reduces an image to a palette, which a page of few colours does not show. Without pngquant it stays as it is. */
function compress(path) {
  spawnSync("pngquant", ["--force", "--skip-if-larger", "--strip", "--quality", "85-100", "--output", path, path]);
}

const browser = await launch();
try {
  const [admin] = process.argv.slice(2);
  if (admin) await shoot(browser, admin);
  else await withDemo(browser, (url) => shoot(browser, url));
} finally {
  await browser.close();
}
