// Pictures of the live page, light, dark and narrow: `node screenshots.mjs FOLDER`. Of the gateway at MOONGATE_URL, which
// must need no token, or of the fake gateway with a drain in progress.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { eventually, launch, text, visit } from "./browser.mjs";
import { FakeGateway } from "./fake_gateway.mjs";

const VIEWS = ["overview", "upstreams", "sockets", "reloads", "configuration", "log"];
const SCREENS = {
  light: { colorScheme: "light", viewport: { width: 1280, height: 800 } },
  dark: { colorScheme: "dark", viewport: { width: 1280, height: 800 } },
  narrow: { colorScheme: "light", viewport: { width: 390, height: 844 } },
};

const folder = process.argv[2];
if (!folder) throw new Error("usage: screenshots.mjs FOLDER");
mkdirSync(folder, { recursive: true });
const fake = process.env.MOONGATE_URL ? null : await new FakeGateway({ interval: 0.5, drainWindow: 30 }).listen();
const url = process.env.MOONGATE_URL ?? fake.url;
const browser = await launch();
for (const [screen, options] of Object.entries(SCREENS)) {
  const page = await visit(browser, `${url}/#overview`, options);
  for (const view of VIEWS) {
    if (view === "upstreams") fake?.state.order("chat", "10.0.0.2:8081", true, fake.drainWindow);
    await page.click(`nav a[href="#${view}"]`);
    await eventually("the stream is live", async () => await text(page, "#connection-text") === "Live");
    if (view === "configuration") {
      await page.fill("#explain-url", "http://chat.example/ws?room=1");
      await page.click("#explain button");
      await page.waitForSelector("#explained:not([hidden]), #explain-error:not(:empty)");
    }
    // The curve of a drain needs some of its window; without one there is nothing to wait for.
    const before = fake?.state.ticks;
    if (fake && view === "upstreams") await eventually("a quarter of the window", () => fake.state.ticks > before + 16);
    await page.mouse.move(0, 0);
    await page.screenshot({ path: join(folder, `${view}-${screen}.png`) });
  }
  if (fake) fake.state.order("chat", "10.0.0.2:8081", false, 0);
  await page.context().close();
}
await browser.close();
await fake?.end();
