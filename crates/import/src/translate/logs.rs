//! `access_log` and `log_format` as `access_log`.

use super::Context;
use crate::cel_text::{Part, parts};
use crate::reader::Directive;
use crate::scope::Scope;
use crate::yaml::{Map, Yaml};

/// Variables with the fields of a line. The last column is what differs, if anything does.
const FIELDS: &[(&str, &str, &str)] = &[
    ("remote_addr", "{client}", ""),
    ("time_iso8601", "{time}", ""),
    ("time_local", "{time}", "`$time_local` is in RFC 3339"),
    ("msec", "{time}", "`$msec` is in RFC 3339"),
    ("request", "{method} {path} {protocol}", ""),
    ("request_method", "{method}", ""),
    ("request_uri", "{path}", ""),
    ("uri", "{path}", "`$uri` has the query too"),
    ("server_protocol", "{protocol}", ""),
    ("status", "{status}", ""),
    ("body_bytes_sent", "{bytes_sent}", ""),
    ("bytes_sent", "{bytes_sent}", "`$bytes_sent` counts the body alone"),
    ("request_length", "{bytes_received}", "`$request_length` counts the body alone"),
    ("http_referer", "{referer}", ""),
    ("http_user_agent", "{user_agent}", ""),
    ("http_host", "{host}", ""),
    ("host", "{host}", ""),
    ("server_name", "{route}", "`$server_name` is the name of the route"),
    ("request_time", "{duration_ms}", "`$request_time` is in milliseconds"),
    (
        "upstream_response_time",
        "{duration_ms}",
        "`$upstream_response_time` is the whole time in milliseconds",
    ),
    ("upstream_addr", "{endpoint}", ""),
    ("request_id", "{request_id}", ""),
    ("ssl_protocol", "{tls_version}", ""),
    ("ssl_cipher", "{tls_cipher}", ""),
    ("remote_user", "-", "`$remote_user` is not logged"),
];

/// The directory of nginx's log, and the one that the unit of the package lets the gateway write.
const DIRECTORIES: (&str, &str) = ("/var/log/", "/var/log/moongate/");

/// nginx's own format `combined`.
const COMBINED: &str = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent""#;

/// The lines of the log of all sites, if they name the route or the site, and if they do not.
pub(super) const NAMED: &str = "whose lines name the route";
const NAMED_HOST: &str = "whose lines name the host";
const COMBINED_LINES: &str = "in the combined format; its lines name neither site nor route";
const UNNAMED: &str = "in one format; its lines name neither site nor route";

/// Translates the log of the `http` level.
pub(super) fn translate(context: &mut Context<'_>, http: &Scope<'_>, document: &mut Map) {
    let mut is_written = false;
    for directive in http.all("access_log") {
        let path = directive.argument(0);
        if path == "off" {
            document.set("access_log", Yaml::word(&"off"));
            context.log_lines = "which is off, as in `http`";
            context.notes.taken(directive, "`access_log: off`");
            return;
        }
        if is_written {
            let why = "the gateway has one access log";
            context.notes.refused(directive, why, "let a log shipper copy it");
        } else if path.starts_with("syslog:") || path.contains('$') {
            let why = "the gateway writes to a file, to standard output or to standard error";
            context.notes.refused(
                directive,
                why,
                "set `access_log.path`, and let the service manager forward it",
            );
        } else {
            is_written = true;
            document.set("access_log", log(context, http, directive));
        }
    }
}

/// Whether the locations of a scope have no lines; notes what differs from the log of `http`.
pub(super) fn is_off(context: &mut Context<'_>, scope: &Scope<'_>, http: &Scope<'_>) -> bool {
    let own = scope.all("access_log");
    let is_global =
        |directive: &Directive| http.all("access_log").iter().any(|other| other.id == directive.id);
    let mut off = false;
    for directive in own.into_iter().filter(|directive| !is_global(directive)) {
        if directive.argument(0) == "off" {
            context.notes.taken(directive, "`access_log: false` of the route");
            off = true;
        } else {
            let why = format!("one log for all sites, {}", context.log_lines);
            context.notes.changed(directive, why);
            if context.log_lines != NAMED {
                context.notes.help(directive, "set `access_log.template`, with `{host}` and `{route}`");
            }
            let name = directive.argument(1);
            let formats = scope.all("log_format");
            if let Some(format) = formats.into_iter().find(|format| format.argument(0) == name)
                && !context.notes.has(format)
            {
                let why = "a site's `access_log` uses it; the one log of the gateway does not";
                context.notes.changed(format, why);
                context.notes.help(format, "write it as `access_log.template`");
            }
        }
    }
    off
}

fn log(context: &mut Context<'_>, http: &Scope<'_>, directive: &Directive) -> Map {
    let mut log = Map::block();
    let mut differences = Vec::new();
    for word in directive.texts().skip(2) {
        let key = word.split('=').next().unwrap_or_default();
        if !["buffer", "flush"].contains(&key) {
            differences.push(format!("`{key}` has no equivalent; see `access_log.sample`"));
        }
    }
    let name = directive.argument(1);
    let format = http.all("log_format").into_iter().find(|format| format.argument(0) == name);
    match format {
        Some(format) => {
            let mut words: Vec<&str> = format.texts().skip(1).collect();
            let escape = words.first().is_some_and(|word| word.starts_with("escape="));
            if escape {
                words.remove(0);
            }
            let text = words.concat();
            if text == COMBINED {
                context.log_lines = COMBINED_LINES;
                log.set("format", Yaml::text("combined"));
                context.notes.taken(format, "`access_log.format: combined`");
            } else if escape {
                context.notes.changed(format, "`access_log.format: json`, with the gateway's fields");
                context.notes.help(format, "`access_log.fields` selects fields of the lines");
            } else {
                let (template, changes) = template(&text);
                context.log_lines = match (template.contains("{route}"), template.contains("{host}")) {
                    (true, _) => NAMED,
                    (false, true) => NAMED_HOST,
                    (false, false) => UNNAMED,
                };
                log.set("template", Yaml::text(template));
                if changes.is_empty() {
                    context.notes.taken(format, "`access_log.template`");
                } else {
                    context.notes.changed(format, format!("`access_log.template`: {}", changes.join("; ")));
                }
            }
        }
        None => {
            context.log_lines = COMBINED_LINES;
            log.set("format", Yaml::text("combined"));
        }
    }
    let path = path(context, directive.argument(0));
    if path.starts_with(DIRECTORIES.1) && path != directive.argument(0) {
        differences.push(format!("the path is `{path}`: the gateway may not write to nginx's directory"));
    }
    log.set("path", Yaml::text(path));
    if differences.is_empty() {
        context.notes.taken(directive, "`access_log`");
    } else {
        context.notes.changed(directive, differences.join("; "));
        context
            .notes
            .help(directive, "`access_log.path` may be any file that the user of the gateway can write");
    }
    log
}

fn path(context: &Context<'_>, path: &str) -> String {
    match path {
        "/dev/stdout" => "stdout".to_owned(),
        "/dev/stderr" => "stderr".to_owned(),
        // Another service's directory belongs to its user.
        path if path.starts_with(DIRECTORIES.0) && !path.starts_with(DIRECTORIES.1) => {
            let name = path.rsplit('/').next().unwrap_or_default();
            format!("{}{name}", DIRECTORIES.1)
        }
        path => context.paths.written(path),
    }
}

/// A format as a template of ours, and what differs.
fn template(format: &str) -> (String, Vec<String>) {
    let (mut template, mut changes) = (String::new(), Vec::new());
    for part in parts(format) {
        match part {
            Part::Literal(text) => template.push_str(&text.replace('{', "{{").replace('}', "}}")),
            Part::Variable(name) => match FIELDS.iter().find(|(variable, ..)| *variable == name) {
                Some((_, field, change)) => {
                    template.push_str(field);
                    if !change.is_empty() {
                        changes.push((*change).to_owned());
                    }
                }
                None => {
                    template.push('-');
                    changes.push(format!("`${name}` is not logged"));
                }
            },
        }
    }
    (template, changes)
}
