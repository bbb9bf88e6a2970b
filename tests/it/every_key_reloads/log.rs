//! `log`. These reloads are awaited in the status, because lines of the log are the effect.

use super::loaded_gateway::{File, LoadedGateway};
use super::{Case, case};
use crate::support::eventually;
use serde_json::Value;

pub(super) const CASES: &[Case] =
    &[case(&["log"], section), case(&["log.level"], level), case(&["log.format"], format)];

fn reload(gateway: &LoadedGateway, file: &File) {
    gateway.write(file);
    let before = gateway.gateway().generation();
    gateway.gateway().signal("HUP");
    eventually("the reload", || (gateway.gateway().generation() > before).then_some(()));
}

/// Reloads the same file, which logs a line at info, and rejects one, which logs a line at error: the lines of both.
fn lines(gateway: &LoadedGateway, file: &File) -> String {
    let log = gateway.gateway().log();
    let mark = log.mark();
    reload(gateway, file);
    gateway.gateway().write_whole("routes: [");
    gateway.gateway().signal("HUP");
    log.wait(mark, &["configuration rejected"]);
    log.text().lines().skip(mark).collect::<Vec<_>>().join("\n")
}

fn logs_info(gateway: &LoadedGateway, file: &File) -> bool {
    reload(gateway, file);
    lines(gateway, file).contains("configuration reloaded")
}

fn section(gateway: &LoadedGateway) {
    assert!(!logs_info(gateway, &File::top("log: { level: error }")));
    assert!(logs_info(gateway, &File::default()), "without the section the defaults apply");
}

fn level(gateway: &LoadedGateway) {
    for (level, expected) in [("info", true), ("error", false), ("info", true)] {
        assert_eq!(logs_info(gateway, &File::top(format!("log: {{ level: {level} }}"))), expected, "{level}");
    }
}

fn format(gateway: &LoadedGateway) {
    for (format, expected) in [("text", false), ("json", true), ("text", false)] {
        let file = File::top(format!("log: {{ format: {format} }}"));
        reload(gateway, &file);
        let text = lines(gateway, &file);
        let is_object = |line: &str| serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object());
        assert_eq!(text.lines().all(is_object), expected, "{text}");
    }
}
