//! Architecture tests: allowed imports between modules, names restricted to certain modules, and file
//! lengths. They read the sources as text, without comments and literals, so they need no compiler and no
//! exceptions beyond the tables below.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

#[path = "architecture/import_graph.rs"]
mod import_graph;

use import_graph::Sources;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the crate from the lowest layer up; modules of one layer do not import each other.
const LAYERS: &[&[&str]] = &[
    &["telemetry", "diagnostics"],
    &["config", "runtime"],
    &["net", "tls"],
    &["websocket", "limit", "etcd"],
    &["acme", "route", "source", "upstream", "plugin"],
    &["tunnel"],
    &["snapshot"],
    &["control"],
    &["proxy"],
    &["server"],
    &["cli", "demo"],
];

/// Modules of one layer of which the first may import the second: the command line starts the demo.
const SIDEWAYS: &[(&str, &str)] = &[("cli", "demo")];

/// The crates of the workspace from the lowest layer up, with their root files; those of one line do not import each other.
const CRATES: &[&[(&str, &str)]] = &[
    &[("moongate-config", "crates/config/src/lib.rs")],
    &[("moongate-sdk", "crates/sdk/src/lib.rs")],
    &[("moongate-expr", "crates/expr/src/lib.rs")],
    &[
        ("moongate-wasm", "crates/wasm/src/lib.rs"),
        ("moongate-luau", "crates/luau/src/lib.rs"),
        ("moongate-plugins", "plugins/registry.rs"),
        ("moongate-import", "crates/import/src/lib.rs"),
    ],
    &[("moongate", "src/lib.rs")],
];

/// Words and the modules that may use them.
const LOCKS: &[Lock] = &[
    Lock { words: &["serde_saphyr"], only_in: &["config"], why: "YAML lives in config" },
    Lock { words: &["serde_yaml"], only_in: &["config"], why: "YAML lives in config" },
    Lock {
        words: &["arc_swap", "ArcSwap", "ArcSwapOption"],
        only_in: &["control", "tls"],
        why: "only control swaps generations; the certificates of a listener change with their files in between",
    },
    Lock {
        words: &["tokio::spawn", "task::spawn", "task::spawn_local", "runtime.spawn", "JoinSet"],
        only_in: &["control", "server", "tunnel", "upstream", "net", "runtime", "cli", "demo"],
        why: "a task is spawned where its end is known: `runtime` supervises tasks, a JoinSet ends with its owner, \
              a tunnel with its sides, the watchdog of a new connection within connect_timeout",
    },
    Lock {
        words: &["println!", "print!", "eprintln!", "eprint!"],
        only_in: &["main", "cli"],
        why: "printing is the command line's",
    },
    Lock { words: &["dbg!"], only_in: &[], why: "it is for debugging" },
    Lock {
        words: &["process::exit", "process::abort"],
        only_in: &[],
        why: "the process ends through main, which lets everything drop",
    },
    Lock {
        words: &["pingora"],
        only_in: &["upstream", "control", "net", "proxy", "server"],
        why: "Pingora's types stay out of the pure modules and of the tunnel",
    },
];

struct Lock {
    words: &'static [&'static str],
    only_in: &'static [&'static str],
    why: &'static str,
}

/// The maximum number of lines of a file without its tests.
const LONGEST: usize = 600;

/// One source file.
struct Source {
    path: PathBuf,
    /// The module it belongs to: the first folder or file below `src`.
    module: String,
    /// The number of `super::` from its module to the crate's root.
    depth: usize,
    /// Its text with comments and literals blanked and test modules removed.
    code: String,
}

#[test]
fn imports_go_downward() {
    complain(|source, wrong| {
        for other in imports(source) {
            if !may_import(&source.module, &other) {
                wrong(&format!("{} imports {other}", source.module));
            }
        }
    });
}

#[test]
fn every_module_has_a_layer() {
    complain(|source, wrong| {
        let known = layer(&source.module).is_some() || ["main", "lib"].contains(&&*source.module);
        if !known {
            wrong(&format!("the module `{}` has no layer; give it one in LAYERS", source.module));
        }
    });
}

#[test]
fn siblings_do_not_import_each_other() {
    let mut report = String::new();
    for (name, file) in CRATES.concat() {
        let sources = Sources::read(&root().join(file));
        assert!(sources.len() > 1, "{name} has no modules");
        for cycle in sources.cycles() {
            writeln!(report, "{name}: {cycle}").unwrap();
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn crates_import_downward() {
    let upper = |layer: usize| CRATES[layer..].concat().into_iter().map(|(name, _)| name);
    for (layer, crates) in CRATES.iter().enumerate() {
        for (name, file) in *crates {
            let root_file = root().join(file);
            let others: Vec<_> = upper(layer).filter(|other| other != name).collect();
            let manifest =
                root_file.ancestors().map(|folder| folder.join("Cargo.toml")).find(|path| path.exists());
            let manifest = fs::read_to_string(manifest.unwrap()).unwrap();
            assert!(
                manifest.contains(&format!("name = \"{name}\"")),
                "the manifest of {name} is another one's"
            );
            for other in &others {
                let needs = manifest.lines().any(|line| line.split([' ', '=', '.']).next() == Some(*other));
                assert!(!needs, "{name} depends on {other}");
            }
            for path in rust_files(root_file.parent().unwrap()) {
                let code = without_tests(&blank(&fs::read_to_string(&path).unwrap()));
                for other in &others {
                    let imported = format!("{}::", other.replace('-', "_"));
                    assert!(!says(&code, &imported), "{} says `{imported}`", path.display());
                }
            }
        }
    }
}

#[test]
fn locked_words_stay_in_their_modules() {
    complain(|source, wrong| {
        for lock in LOCKS.iter().filter(|lock| !lock.only_in.contains(&&*source.module)) {
            for word in lock.words.iter().filter(|word| says(&source.code, word)) {
                wrong(&format!("says `{word}`; {}", lock.why));
            }
        }
    });
}

#[test]
fn every_file_has_a_header_and_a_bounded_length() {
    let mut report = String::new();
    let files = ["src", "crates", "plugins"].into_iter().flat_map(|folder| rust_files(&root().join(folder)));
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let shown = path.display();
        if !text.trim_start().starts_with("//!") {
            writeln!(report, "{shown}: has no //! header").unwrap();
        }
        let lines = without_tests(&blank(&text)).trim_end().lines().count();
        if lines > LONGEST {
            writeln!(report, "{shown}: has {lines} lines, {LONGEST} is the most").unwrap();
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn plugins_know_the_sdk_alone() {
    let runs_alone = |path: &PathBuf| path.iter().any(|part| part == "benches" || part == "examples");
    for path in rust_files(&root().join("plugins")).into_iter().filter(|path| !runs_alone(path)) {
        let code = blank(&fs::read_to_string(&path).unwrap());
        for word in ["pingora", "moongate", "serde_yaml", "serde_saphyr", "println!", "process::exit"] {
            assert!(!says(&code, word), "{} says `{word}`", path.display());
        }
    }
}

/// A test of the parser: a parser that finds nothing would pass everything.
#[test]
fn the_reader_finds_every_way_to_import() {
    let text = r##"//! Header.
use crate::control::Store;
use crate::{route, proxy::{self, Hook}, server as s};
use super::super::cli;
// use crate::commented;
/* crate::commented /* nested */ crate::commented */
fn f<'a>(x: &'a str) -> char {
    let _ = ("crate::quoted \" crate::quoted", r#"crate::raw " crate::raw"#, b'"', '"', '\'');
    pub_in(crate::tunnel::run());
    'x'
}
pub(crate) fn crate_visible() {}
#[cfg(test)]
mod tests {
    use crate::in_tests;
}
fn after() { crate::config::load(); }
"##;
    let source = Source {
        path: PathBuf::new(),
        module: "telemetry".to_owned(),
        depth: 2,
        code: without_tests(&blank(text)),
    };
    let mut found = imports(&source);
    found.sort();
    assert_eq!(found, ["cli", "config", "control", "proxy", "route", "server", "tunnel"]);
    assert!(says("a println!(b)", "println!") && !says("a eprintln!(b)", "println!"));
    assert!(says("pingora_core::x", "pingora") && says("std::process::exit(1)", "process::exit"));
    assert!(may_import("cli", "server") && may_import("proxy", "tunnel") && may_import("config", "config"));
    assert!(
        !may_import("tunnel", "proxy") && !may_import("config", "route") && !may_import("route", "plugin")
    );
}

/// The test of the test: the graph finds a cycle through every way to import, and nothing else.
#[test]
fn the_graph_finds_a_cycle() {
    const ROOT: &str = "mod a; mod b; mod c; mod d; pub use b::B; pub use c::*;";
    let cycle_of = |modules: &[(&str, &str)]| {
        let with_root = [&[("", ROOT)], modules].concat();
        Sources::of(&with_root).cycles().into_iter().map(|cycle| cycle.members.join(" ")).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    for import in
        ["use crate::B;", "use super::{c, b as other};", "fn f() { super::b::g() }", "use crate::b::*;"]
    {
        let there =
            [("a", import), ("b", "use crate::a::A; pub struct B;"), ("c", "pub struct C;"), ("d", "")];
        assert_eq!(cycle_of(&there), ["a b"], "{import}");
        let one_way = [there[0], ("b", "pub struct B;"), there[2], there[3]];
        assert_eq!(cycle_of(&one_way), none, "{import}");
    }
    // Through a glob of the parent.
    let ring = [("a", "use super::C;"), ("b", "use crate::a;"), ("c", "pub struct C; use crate::d;")];
    assert_eq!(cycle_of(&[&ring[..], &[("d", "use crate::b::x;")]].concat()), ["a b c d"]);
    // In tests, comments and literals nothing is imported; a parent may name its children, and they it.
    for code in ["#[cfg(test)] mod tests { use crate::b; }", "// crate::b", "fn f() { g(\"crate::b\") }"] {
        assert_eq!(cycle_of(&[("a", code), ("b", "use crate::a;"), ("c", ""), ("d", "")]), none, "{code}");
    }
    let family = [("a", "mod x; pub use x::X; pub struct A;"), ("a::x", "use super::A; pub struct X;")];
    assert_eq!(cycle_of(&[&family[..], &[("b", ""), ("c", ""), ("d", "")]].concat()), none);
    // Through a module that was imported as a whole.
    let whole = [
        ("a", "mod x; mod y;"),
        ("a::x", "use crate::a; fn f() { a::y::g() }"),
        ("a::y", "use super::x;"),
        ("b", ""),
    ];
    assert_eq!(cycle_of(&[&whole[..], &[("c", ""), ("d", "")]].concat()), ["x y"]);
    // A function that has the name of a module beside it.
    let named = [("a", "use super::b::c;"), ("b", "use super::{a, c}; pub fn c() {}"), ("c", ""), ("d", "")];
    assert_eq!(cycle_of(&named), ["a b"]);
    // Below a folder, and from a module that stands in the file.
    let below = [
        ("a", "mod x; mod y; pub use y::Y;"),
        ("a::x", "mod inner { use super::super::Y; } pub struct X;"),
        ("a::y", "use crate::a::x::X; pub struct Y;"),
    ];
    let cycles = Sources::of(&[&[("", ROOT)], &below[..]].concat()).cycles();
    assert_eq!(cycles.len(), 1);
    assert_eq!(
        cycles[0].to_string(),
        "below a, x, y import each other:\n    a::x imports a::y\n    a::y imports a::x"
    );
}

/// Runs a check over every source and fails with all that is wrong at once.
fn complain(check: impl Fn(&Source, &mut dyn FnMut(&str))) {
    let mut report = String::new();
    let sources = sources();
    assert!(!sources.is_empty());
    for source in &sources {
        let mut wrong = |what: &str| writeln!(report, "{}: {what}", source.path.display()).unwrap();
        check(source, &mut wrong);
    }
    assert!(report.is_empty(), "\n{report}");
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

fn may_import(module: &str, other: &str) -> bool {
    match (layer(module), layer(other)) {
        (Some(mine), Some(theirs)) => module == other || theirs < mine || SIDEWAYS.contains(&(module, other)),
        // main and lib may import everything; a name that is no module is an item of the crate's root.
        _ => true,
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !["target", "tests"].contains(&name) {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") && name != "tests.rs" {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn sources() -> Vec<Source> {
    let root = root();
    let src = root.join("src");
    rust_files(&src)
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let inside = path.strip_prefix(&src).unwrap().with_extension("");
            let mut names: Vec<_> = inside.iter().map(|name| name.to_str().unwrap()).collect();
            if names.last() == Some(&"mod") {
                names.pop();
            }
            let (module, depth) = (names[0].to_owned(), names.len());
            let code = without_tests(&blank(&text));
            Source { path: path.strip_prefix(&root).unwrap().to_owned(), module, depth, code }
        })
        .collect()
}

/// The first names after every `crate::` and every chain of `super::` that reaches the root.
fn imports(source: &Source) -> Vec<String> {
    let up = "super::".repeat(source.depth);
    ["crate::", &up]
        .iter()
        .flat_map(|prefix| source.code.match_indices(prefix).map(|(at, found)| (at, at + found.len())))
        .filter(|(at, _)| !source.code[..*at].ends_with(|c: char| is_word(c) || c == ':' || c == '$'))
        .flat_map(|(_, end)| first_names(&source.code[end..]))
        .collect()
}

/// `a` of `a::b`; `a` and `c` of `{a::b, c::{d, e}}`.
fn first_names(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else {
        return vec![word(rest)];
    };
    let (mut depth, mut names, mut start) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' => start = depth == 0,
            _ if start && is_word(c) => {
                names.push(word(&group[at..]));
                start = false;
            }
            _ => {}
        }
    }
    names
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| is_word(*c)).collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns whether the code contains the word; `pingora` also matches `pingora_core`.
fn says(code: &str, what: &str) -> bool {
    let longer = what == "pingora";
    code.match_indices(what).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + what.len()..].chars().next();
        !before.is_some_and(is_word) && (longer || what.ends_with('!') || !after.is_some_and(is_word))
    })
}

/// Removes every item with `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        kept.push_str(&rest[..at]);
        rest = &rest[at + MARK.len()..];
        let mut depth = 0;
        let end = rest.char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            (*c == ';' || *c == '}') && depth == 0
        });
        rest = end.map_or("", |(end, _)| &rest[end + 1..]);
    }
    kept + rest
}

/// The code with comments and the content of literals replaced by spaces; lines keep their numbers.
fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let hidden = comment(rest).or_else(|| literal(rest, code.chars().next_back()));
        let length = hidden.unwrap_or(c.len_utf8());
        let (taken, left) = rest.split_at(length);
        match hidden {
            Some(_) => code.extend(taken.chars().map(|c| if c == '\n' { c } else { ' ' })),
            None => code.push_str(taken),
        }
        rest = left;
    }
    code
}

fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    let mut depth = 0;
    let mut at = 0;
    while text.starts_with("/*") {
        let here = &text[at..];
        let step = match here.get(..2) {
            Some("/*") => (1, 2),
            Some("*/") => (-1, 2),
            _ => (0, here.chars().next().map_or(1, char::len_utf8)),
        };
        depth += step.0;
        at = (at + step.1).min(text.len());
        if depth == 0 || at == text.len() {
            return Some(at);
        }
    }
    None
}

/// The length of a string or character literal that starts here.
fn literal(text: &str, before: Option<char>) -> Option<usize> {
    if before.is_some_and(is_word) && !text.starts_with(['"', '\'']) {
        return None;
    }
    let raw = text.strip_prefix('b').unwrap_or(text);
    if let Some(raw) = raw.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = &raw[hashes + 1..];
            let close = body.find(&end).map_or(body.len(), |at| at + end.len());
            return Some(text.len() - body.len() + close);
        }
    }
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    // A lifetime is not a literal: 'a is not followed by a quote.
    let mut chars = text[1..].chars();
    if quote == '\'' && chars.next() != Some('\\') && chars.next() != Some('\'') {
        return None;
    }
    let mut escaped = false;
    let close = text[1..].char_indices().find(|(_, c)| {
        let closes = *c == quote && !escaped;
        escaped = *c == '\\' && !escaped;
        closes
    });
    close.map(|(at, _)| at + 2)
}
