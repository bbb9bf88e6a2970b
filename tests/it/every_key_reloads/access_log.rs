//! `access_log`.

use super::loaded_gateway::{File, LoadedGateway};
use super::{Case, case};
use crate::support::{Origin, eventually};
use std::path::Path;

pub(super) const CASES: &[Case] = &[
    case(&["access_log"], section),
    case(&["access_log.format"], format),
    case(&["access_log.fields"], fields),
    case(&["access_log.template"], template),
    case(&["access_log.path"], path),
    case(&["access_log.buffer"], buffer),
    case(&["access_log.sample", "access_log.sample.ratio"], ratio),
    case(&["access_log.sample.route"], |gateway| check_rule(gateway, "route: other", "route: case")),
    case(&["access_log.sample.status"], |gateway| check_rule(gateway, "status: 404", "status: [200-299]")),
];

fn to(origin: &Origin, log: &str) -> File {
    let log = if log.is_empty() { String::new() } else { format!("access_log: {log}") };
    File::top(log)
        .and_route(format!("name: case, path: /case, upstream: ['{origin}']"))
        .and_route(format!("name: other, path: /other, upstream: ['{origin}']"))
}

/// Reloads these settings besides a path, requests this target, and returns its line in a new file of that name.
fn line(gateway: &LoadedGateway, name: &str, settings: &str, target: &str) -> String {
    let (origin, file) = (Origin::named("a"), gateway.path(name));
    gateway.reload(&to(&origin, &format!("{{ path: '{}', {settings} }}", file.display())));
    assert_eq!(gateway.get(target).status, 200);
    await_line(&file, target)
}

fn await_line(file: &Path, needle: &str) -> String {
    eventually(&format!("a line with {needle}"), || find(file, needle))
}

fn find(file: &Path, needle: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    lines.find(|line| line.contains(needle)).map(|line| line.trim_end().to_owned())
}

fn section(gateway: &LoadedGateway) {
    let line = line(gateway, "section", "", "/case/section");
    assert!(line.contains("\"route\":\"case\""), "{line}");
    let (origin, file) = (Origin::named("a"), gateway.path("section"));
    gateway.reload(&to(&origin, "off"));
    assert_eq!(gateway.get("/case/off").status, 200);
    // A line of the load before the reload may still follow, and lines keep their order.
    gateway.reload(&to(&origin, &format!("{{ path: '{}' }}", file.display())));
    assert_eq!(gateway.get("/case/on").status, 200);
    await_line(&file, "/case/on");
    assert_eq!(find(&file, "/case/off"), None);
}

fn format(gateway: &LoadedGateway) {
    for (format, start) in [("json", "{"), ("combined", "127.0.0.1 - - [")] {
        let target = format!("/case/{format}");
        let line = line(gateway, &format!("format-{format}"), &format!("format: {format}"), &target);
        assert!(line.starts_with(start), "{line}");
    }
}

fn fields(gateway: &LoadedGateway) {
    for (name, fields, expected) in [
        ("fields-1", "[status, path]", r#"{"status":200,"path":"/case/f"}"#),
        ("fields-2", "[path, method]", r#"{"path":"/case/f","method":"GET"}"#),
    ] {
        assert_eq!(line(gateway, name, &format!("fields: {fields}"), "/case/f"), expected);
    }
}

fn template(gateway: &LoadedGateway) {
    for (name, template, expected) in [
        ("template-1", "{path} one {status}", "/case/t one 200"),
        ("template-2", "{path} two", "/case/t two"),
    ] {
        assert_eq!(line(gateway, name, &format!("template: '{template}'"), "/case/t"), expected);
    }
}

fn path(gateway: &LoadedGateway) {
    for name in ["path-1", "path-2"] {
        line(gateway, name, "", &format!("/case/{name}"));
    }
    assert_eq!(find(&gateway.path("path-1"), "/case/path-2"), None);
}

/// A line that is longer than the whole buffer is dropped.
fn buffer(gateway: &LoadedGateway) {
    let (origin, file) = (Origin::named("a"), gateway.path("buffer"));
    let dropped = || gateway.metric("moongate_access_log_dropped_total", &[]);
    let long = "x".repeat(8000);
    for (buffer, is_dropped) in [("64KiB", false), ("4KiB", true)] {
        gateway.reload(&to(&origin, &format!("{{ path: '{}', buffer: {buffer} }}", file.display())));
        let before = dropped();
        assert_eq!(gateway.get(&format!("/case/{buffer}/{long}")).status, 200);
        assert_eq!(gateway.get(&format!("/case/{buffer}/last")).status, 200);
        await_line(&file, &format!("/case/{buffer}/last"));
        assert_eq!(find(&file, &format!("/case/{buffer}/x")).is_none(), is_dropped, "{buffer}");
        assert_eq!(dropped() > before, is_dropped, "{buffer}");
    }
}

/// Writes a share of the lines: none, or all.
fn ratio(gateway: &LoadedGateway) {
    check_sampling(gateway, "ratio: 0", false);
    check_sampling(gateway, "ratio: 1", true);
}

/// Of two conditions for lines that are not written, only the second matches.
fn check_rule(gateway: &LoadedGateway, other: &str, matching: &str) {
    check_sampling(gateway, &format!("{other}, ratio: 0"), true);
    check_sampling(gateway, &format!("{matching}, ratio: 0"), false);
}

fn check_sampling(gateway: &LoadedGateway, rule: &str, expected: bool) {
    let origin = Origin::named("a");
    let file = gateway.path("sampled");
    let with = |settings: &str| to(&origin, &format!("{{ path: '{}'{settings} }}", file.display()));
    let target = format!("/case/{}", rule.replace(|c: char| !c.is_alphanumeric(), "-"));
    gateway.reload(&with(&format!(", sample: [{{ {rule} }}]")));
    assert_eq!(gateway.get(&target).status, 200);
    // Lines keep their order, and this one is written in any case.
    gateway.reload(&with(""));
    let last = format!("{target}/last");
    assert_eq!(gateway.get(&last).status, 200);
    await_line(&file, &last);
    assert_eq!(find(&file, &format!("{target}\"")).is_some(), expected, "{rule}");
}
