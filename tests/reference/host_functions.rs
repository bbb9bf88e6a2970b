//! The functions that scripts and filters can call: `docs/reference/luau.md` and `wasm.md` name those that the hosts define.

use regex::Regex;
use std::collections::BTreeSet;
use std::process::Command;

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The text between a heading and the next one of its level.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start =
        page.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no section {heading}"));
    start.split("\n## ").next().unwrap_or_default()
}

/// Every match of the first group.
fn found(pattern: &str, text: &str) -> BTreeSet<String> {
    Regex::new(pattern).unwrap().captures_iter(text).map(|found| found[1].to_owned()).collect()
}

#[test]
fn every_function_of_proxy_wasm_is_documented() {
    let defined = found(r#""(proxy_[a-z_]+)""#, &read("crates/wasm/src/abi/mod.rs"));
    assert!(defined.len() > 40, "{defined:?}");
    let page = read("docs/reference/wasm.md");
    // The names in the first column: the second one mentions others.
    let rows =
        section(&page, "Functions").lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let written = found(r"`(proxy_[a-z_]+)`", &rows.collect::<String>());
    assert_eq!(written, defined);
}

#[test]
fn every_callback_of_proxy_wasm_is_documented() {
    let called = found(r#""(proxy_on_[a-z_]+)""#, &read("crates/wasm/src/exports.rs"));
    assert!(called.len() > 10, "{called:?}");
    let page = read("docs/reference/wasm.md");
    let written = found(r"`(proxy_on_[a-z_]+)`", section(&page, "Callbacks"));
    assert_eq!(written, called);
}

/// `req:path` and so on, from the constants that bind a method to its objects.
fn defined_methods() -> BTreeSet<String> {
    let add = Regex::new(r#"add\(\s*"([a-z_]+)",\s*(?:([A-Z]+)|&\[([^\]]*)\])"#).unwrap();
    let objects = Regex::new(r"const ([A-Z]+): &\[HandleKind\] = &\[([^\]]*)\]").unwrap();
    let mut methods = BTreeSet::new();
    for file in ["handles", "handles/request", "handles/response", "handles/message"] {
        let source = read(&format!("crates/luau/src/{file}.rs"));
        for found in add.captures_iter(&source) {
            let named = found.get(2).map(|name| {
                let constant = objects.captures_iter(&source).find(|constant| constant[1] == *name.as_str());
                constant.unwrap_or_else(|| panic!("{file}.rs: no constant {}", name.as_str()))[2].to_owned()
            });
            for object in named.unwrap_or_else(|| found[3].to_owned()).split(", ") {
                let object = object.trim_start_matches("HandleKind::").to_lowercase();
                methods.insert(format!("{object}:{}", &found[1]));
            }
        }
    }
    methods
}

#[test]
fn every_method_of_luau_is_documented() {
    let page = read("docs/reference/luau.md");
    let defined = defined_methods();
    assert!(defined.len() > 50, "{defined:?}");
    let tables: String = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split(" | ").next().unwrap_or_default().to_owned() + "\n")
        .collect();
    let mut written = found(r"`((?:req|res|body|ws|msg):[a-z_]+)\(", &tables);
    // The methods of `req` that `ws` has too are a list in a sentence.
    let inherited = page.split("`ws` has these methods of `req`:").nth(1).unwrap().split('.').next().unwrap();
    written.extend(found(r"`([a-z_]+)`", inherited).into_iter().map(|name| format!("ws:{name}")));
    assert_eq!(written, defined);
}

#[test]
fn every_phase_function_of_luau_is_documented() {
    let defined = found(r#"Self::[A-Za-z]+ => "([a-z_]+)""#, &read("crates/luau/src/phase.rs"));
    let page = read("docs/reference/luau.md");
    assert_eq!(found(r"\| `([a-z_]+)\(", section(&page, "Phase functions")), defined);
}

/// A script lists the members of each library that it can reach.
#[test]
fn every_library_function_of_luau_is_documented() {
    let libraries = ["logger", "json", "base64", "crypto", "time"];
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("list.luau");
    let globals = libraries.map(|name| format!("{name} = {name}")).join(", ");
    let source = format!(
        "function request_headers(req)
            for library, table in pairs({{ {globals} }}) do
                for name in pairs(table) do req:add_header(\"x-name\", library .. \".\" .. name) end
            end
        end"
    );
    std::fs::write(&script, source).unwrap();
    let test =
        Command::new(env!("CARGO_BIN_EXE_moongate")).args(["plugin", "test"]).arg(&script).output().unwrap();
    let output = String::from_utf8_lossy(&test.stdout);
    let defined = found(r"\b((?:logger|json|base64|crypto|time)\.[a-z0-9_]+)", &output);
    assert!(defined.contains("json.decode"), "{output}");

    let page = read("docs/reference/luau.md");
    let mut written = BTreeSet::new();
    for row in section(&page, "Other globals").lines().filter(|line| line.starts_with("| `")) {
        let mut library = String::new();
        for name in found_in_order(r"`([a-z0-9]*\.[a-z0-9_]+)", row) {
            let (of, member) = name.split_once('.').unwrap();
            if !of.is_empty() {
                library = of.to_owned();
            }
            written.insert(format!("{library}.{member}"));
        }
    }
    assert_eq!(written, defined);
}

fn found_in_order(pattern: &str, text: &str) -> Vec<String> {
    Regex::new(pattern).unwrap().captures_iter(text).map(|found| found[1].to_owned()).collect()
}

#[test]
fn every_global_of_luau_is_documented() {
    let defined = found(r#"globals\.set\("([a-z]+)""#, &read("crates/luau/src/standard_library.rs"));
    let page = read("docs/reference/luau.md");
    let silent: Vec<_> = defined.iter().filter(|name| !page.contains(&format!("`{name}"))).collect();
    assert!(defined.len() > 5 && silent.is_empty(), "docs/reference/luau.md says nothing about {silent:?}");
}

#[test]
fn every_variable_of_expressions_is_documented() {
    let source = read("crates/expr/src/names.rs");
    let table = |name: &str| {
        let table =
            source.split(&format!("const {name}: ")).nth(1).unwrap().split("];").next().unwrap().to_owned();
        let root = name.to_lowercase();
        found(r#"\("([a-z_.]+)", Member"#, &table).into_iter().map(move |member| format!("{root}.{member}"))
    };
    let defined: BTreeSet<String> = table("REQUEST").chain(table("RESPONSE")).collect();
    let page = read("docs/reference/expressions.md");
    let mut written = BTreeSet::new();
    for row in section(&page, "Variables").lines().filter(|line| line.starts_with("| `")) {
        let cell = row.split(" | ").next().unwrap();
        let mut parent = String::new();
        for name in found_in_order(r"`([a-z_.]+)", cell) {
            let name = if name.starts_with('.') { format!("{parent}{name}") } else { name };
            parent = name.rsplit_once('.').unwrap().0.to_owned();
            written.insert(name);
        }
    }
    assert_eq!(written, defined);
}
