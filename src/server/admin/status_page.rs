//! HTML status page: self-refreshing tables, without scripts or external resources.

use serde_json::Value;
use std::fmt::{self, Write as _};

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5"><title>Moongate</title>
<meta name="viewport" content="width=device-width"><style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #222; background: #fff }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; width: 100% }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #ddd; vertical-align: top }
th { font-weight: 600; color: #555 } pre { background: #fff4f2; padding: 1rem; overflow: auto }
.healthy { color: #17692b } .unhealthy { color: #b3261e; font-weight: 600 }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #16181c } th, td { border-color: #333 } th { color: #aaa }
  a { color: #8ab4f8 } pre { background: #2b1b1a } .healthy { color: #7ccf8f } .unhealthy { color: #ff8a80 }
}
</style></head><body>
<h1>Moongate</h1>
"#;

const FOOT: &str = r#"<p><a href="/api/v1/status">/api/v1/status</a> · <a href="/metrics">/metrics</a> · <a href="/healthz">/healthz</a> ·
<a href="/readyz">/readyz</a> · POST /api/v1/reload</p>
</body></html>
"#;

/// Text escaped for HTML.
struct HtmlEscaped<'a>(&'a str);

/// The page for `status`, in the form of `/api/v1/status`. Missing values are left empty.
pub(super) fn render(status: &Value, ready: bool) -> String {
    let mut page = String::from(HEAD);
    // Writing to a string cannot fail.
    let _ = write(&mut page, status, ready);
    page.push_str(FOOT);
    page
}

fn write(page: &mut String, status: &Value, ready: bool) -> fmt::Result {
    page.push_str("<table>");
    row(page, "State", if ready { "ready" } else { "draining" })?;
    for (name, key) in [
        ("Version", "version"),
        ("Generation", "generation"),
        ("WebSockets", "websockets"),
        ("Requests", "requests"),
    ] {
        row(page, name, &text(&status[key]))?;
    }
    row(page, "Uptime", &uptime(status["uptime_seconds"].as_u64().unwrap_or_default()))?;
    let reload = &status["last_reload"];
    row(
        page,
        "Last reload",
        if reload["ok"] == false { "rejected; the previous configuration is in use" } else { "applied" },
    )?;
    for listener in items(&status["listeners"]) {
        row(page, "Listener", &format!("{} {}", text(&listener["name"]), text(&listener["address"])))?;
    }
    page.push_str("</table>\n");
    if let Some(report) = reload["report"].as_str() {
        writeln!(page, "<pre>{}</pre>", HtmlEscaped(report))?;
    }
    for (name, upstream) in status["upstreams"].as_object().into_iter().flatten() {
        endpoints(page, name, upstream)?;
    }
    Ok(())
}

fn endpoints(page: &mut String, name: &str, upstream: &Value) -> fmt::Result {
    writeln!(page, "<h2>{}</h2>", HtmlEscaped(name))?;
    page.push_str("<table><tr><th>Endpoint<th>Weight<th>Health<th>Active<th>Draining\n");
    for endpoint in items(&upstream["endpoints"]) {
        let [address, weight, health, active, draining] =
            ["address", "weight", "health", "active", "draining"].map(|key| text(&endpoint[key]));
        let class = HtmlEscaped(&health);
        let [address, weight, active, draining] =
            [&address, &weight, &active, &draining].map(|text| HtmlEscaped(text));
        writeln!(
            page,
            "<tr><td>{address}<td>{weight}<td class=\"{class}\">{class}<td>{active}<td>{draining}"
        )?;
    }
    page.push_str("</table>\n");
    Ok(())
}

fn row(page: &mut String, name: &str, value: &str) -> fmt::Result {
    writeln!(page, "<tr><th>{name}<td>{}", HtmlEscaped(value))
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

impl fmt::Display for HtmlEscaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_page_shows_the_status() {
        let status = json!({
            "version": "1.2.3", "generation": 7, "uptime_seconds": 90_061, "draining": false,
            "last_reload": { "ok": false, "at": 1, "report": "error: a < b" },
            "listeners": [{ "name": "web", "address": "127.0.0.1:8080" }],
            "upstreams": { "<u>": { "endpoints": [{ "address": "1.2.3.4:80", "weight": 2, "health": "healthy", "active": 5, "draining": "operator" }] } },
            "websockets": 3, "requests": 11,
        });
        let page = render(&status, true);
        for part in [
            "1.2.3",
            "web 127.0.0.1:8080",
            "1 d 1 h",
            "&lt;u&gt;",
            "a &lt; b",
            "rejected",
            "<td>1.2.3.4:80<td>2<td class=\"healthy\">healthy<td>5<td>operator",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
    }

    #[test]
    fn a_status_of_another_shape_is_a_page_too() {
        for status in
            [json!(null), json!([1]), json!({ "upstreams": 3, "listeners": {}, "last_reload": "x" })]
        {
            assert!(render(&status, false).contains("draining"));
        }
    }
}
