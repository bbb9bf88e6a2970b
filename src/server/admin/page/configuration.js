// The view Configuration: the effective YAML, and which route a request gets and why.

/** A line of YAML with its key and its comment in elements of their own. The gateway prints it, so a rough look suffices. */
function yamlLine(line) {
  const [, indent, key, rest] = /^(\s*(?:- )?)([^\s:#"'{[-][^:#]*:(?=\s|$))?(.*)$/.exec(line) ?? [null, "", undefined, line];
  const parts = [indent];
  if (key !== undefined) parts.push(element("span", { class: "yaml-key" }, key));
  if (/^\s*#/.test(rest)) parts.push(element("span", { class: "yaml-comment" }, rest));
  else parts.push(rest);
  return [...parts, "\n"];
}

function createConfiguration() {
  let shown = null, fetching = false, generation = null;

  async function load() {
    if (fetching) return;
    fetching = true;
    try {
      const text = await (await request("GET", "/api/v1/config")).text();
      if (text !== shown) byId("effective").replaceChildren(...text.split("\n").flatMap(yamlLine));
      shown = text;
      setText(byId("effective-note"), "Secrets are masked.");
    } catch (error) {
      if (error.status !== 401) setText(byId("effective-note"), explainError(error));
    } finally {
      fetching = false;
    }
  }

  const others = new DataTable(byId("explained-others"), [
    { key: "route", label: "Route", header: true, build: textCell(({ route }) => route) },
    { key: "reason", label: "Reason", build: textCell(({ reason }) => reason) },
  ]);

  function showExplanation({ route, upstream, because, others: rest, elsewhere, text }) {
    byId("explained").hidden = false;
    const verdict = byId("explained-route");
    if (route === null) verdict.replaceChildren("No route matches: the client gets 404.");
    else verdict.replaceChildren("Route ", element("strong", {}, route), upstream === null ? ", without an upstream" : " to upstream ", upstream === null ? "" : element("strong", {}, upstream));
    byId("explained-because").replaceChildren(...because.map((reason) => element("li", {}, reason)));
    others.show(rest.map((other, index) => ({ key: `${index}\n${other.route}`, item: other })), true);
    setHidden(byId("explained-others-part"), rest.length === 0);
    setText(byId("explained-elsewhere"), elsewhere > 0 ? `${plural(elsewhere, "route")} of other hosts or listeners not shown.` : "");
    setText(byId("explained-text"), text);
  }

  byId("explain").addEventListener("submit", async (event) => {
    event.preventDefault();
    setText(byId("explain-error"), "");
    const url = byId("explain-url").value.trim();
    const parameters = query({
      method: byId("explain-method").value,
      // A host without a scheme is meant as one.
      url: url.includes("://") ? url : `http://${url}`,
      header: byId("explain-headers").value.split("\n").map((line) => line.trim()).filter((line) => line !== ""),
      listener: byId("explain-listener").value.trim(),
      client: byId("explain-client").value.trim(),
    });
    try {
      showExplanation(await requestJson("GET", `/api/v1/explain?${parameters}`));
    } catch (error) {
      byId("explained").hidden = true;
      setText(byId("explain-error"), explainError(error));
    }
  });

  // The clipboard exists on HTTPS and localhost only.
  const copy = byId("effective-copy");
  setHidden(copy, !navigator.clipboard);
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(shown ?? "");
      notify("The configuration is copied.");
    } catch {
      notify("The browser did not allow copying.", "bad");
    }
  });

  return {
    title: "Configuration",
    // The reloads say when to read the configuration again.
    path: () => "/api/v1/live?sections=reloads",
    opened() {
      generation = null;
      load();
    },
    events: {
      reloads({ entries }) {
        const newest = entries.find(({ ok }) => ok);
        if (!newest) return;
        setGeneration(newest.generation);
        if (generation !== null && generation !== newest.generation) load();
        generation = newest.generation;
      },
    },
    render() {},
  };
}
