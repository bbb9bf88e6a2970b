//! Documentation tests: every YAML block is checked, every command executed, every link followed.
//!
//! A page is a session. Its ```` ```console ```` blocks run in order, in a temporary directory with a copy of
//! `conf/`, against a real gateway. The lines below a `$ command` are its output, `…` matches anything, and a
//! command without output only has to succeed. Each session has a loopback address of its own, so the pages
//! keep their well-known ports and run in parallel. A WebSocket is opened when the gateway starts and must
//! still echo at the end of the page.
//!
//! `docs/session.rs` runs the sessions; the rules for pages are here.

// Only Linux treats every address of 127.0.0.0/8 as local.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "tests fail by panicking")]

#[path = "docs/certs.rs"]
mod certs;
#[path = "docs/links.rs"]
mod links;
#[path = "docs/page.rs"]
mod page;
#[path = "docs/session.rs"]
mod session;

use moongate::tunnel::close_frames;
use moongate::websocket::frame::FrameError;
use page::{Page, pages, root};
use session::Session;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Commands that a page shows but that are not run here, each with its reason.
const NOT_RUN: &[(&str, &str)] = &[
    ("git clone", "the source is already here"),
    ("make test", "it would run itself"),
    ("make release", "it takes minutes"),
    ("make autobahn", "it takes minutes and needs Python 2.7"),
    ("make h2spec", "it needs h2spec, which no distribution has"),
    ("make clients", "it takes minutes and needs libraries of seven languages"),
    ("make testssl", "it takes minutes and needs nginx and testssl.sh"),
    ("make bench", "it takes minutes and needs nginx and HAProxy"),
    ("make deb", "it takes minutes; `make packages-test` runs it"),
    (
        "sudo apt-get",
        "it would change the machine; `make packages-test` installs the package in another root",
    ),
    ("make rpm", "it takes minutes; `make packages-test` runs it"),
    ("sudo dnf", "it would change the machine"),
    ("sudo make install", "it would change the machine"),
    ("sudo cp", "it would change the machine"),
    ("sudo systemctl", "it would change the machine"),
    ("npm ci", "it needs Node.js and the network; `make browser` and `make apps` run the example"),
    ("sh examples/", "`make apps` runs the example"),
    ("node examples/", "it needs Node.js; `make browser` and `make apps` run the examples"),
    ("mosquitto -c examples/", "`make apps` runs the example"),
    ("haproxy -f examples/", "`make apps` runs the example"),
    ("etcd", "`make apps` runs the example"),
    ("redis-server", "`make apps` runs the example"),
    ("LISTEN=", "`make apps` runs the example"),
    ("moongate run -c examples/", "it needs the example's backends; `make apps` runs it"),
    ("openssl rand -hex 32 > examples/", "it would leave a file; `make apps` runs the example"),
    ("MOONGATE_ADMIN_TOKEN=", "`make apps` runs the example"),
    ("prometheus --config.file=examples/", "`make apps` runs the example"),
    ("websocat", "it is not on every machine; the session holds a WebSocket of its own"),
];

/// Returns whether a block has a script or a filter that this build cannot run.
fn needs_a_host(text: &str) -> bool {
    let luau = text.contains("kind: luau");
    let wasm = text.contains("kind: wasm") || text.contains(".wasm");
    luau && !cfg!(feature = "luau") || wasm && !cfg!(feature = "wasm")
}

#[test]
fn every_yaml_block_is_a_configuration_that_checks() {
    for page in pages() {
        for block in page.blocks.iter().filter(|block| block.language() == "yaml") {
            if needs_a_host(&block.text) {
                continue;
            }
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("moongate.yaml");
            std::fs::write(&file, &block.text).unwrap();
            // The files below conf/ and certs/ that a block names exist there.
            certs::write(directory.path());
            std::os::unix::fs::symlink(root().join("conf"), directory.path().join("conf")).unwrap();
            let check = Command::new(env!("CARGO_BIN_EXE_moongate"))
                .args(["check", "-c"])
                .arg(&file)
                .env("NO_COLOR", "1")
                .output()
                .unwrap();
            let report = String::from_utf8_lossy(&check.stderr);
            assert!(check.status.success(), "{}:{}: {report}", page.name, block.line);
        }
    }
}

/// With certificates, which the repository does not contain.
#[test]
fn every_file_of_conf_is_a_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let conf = directory.path().join("conf");
    std::fs::create_dir(&conf).unwrap();
    certs::write(&conf);
    // Modules and scripts are named from there.
    std::os::unix::fs::symlink(root().join("plugins"), directory.path().join("plugins")).unwrap();
    for entry in std::fs::read_dir(root().join("conf")).unwrap().map(Result::unwrap) {
        // A developer may have run the example, with certificates there.
        if entry.file_name() != "certs" {
            std::os::unix::fs::symlink(entry.path(), conf.join(entry.file_name())).unwrap();
        }
    }
    let files = configurations(&conf);
    assert!(files.len() > 50, "{files:?}");
    let refused: String = files.iter().filter_map(|file| refusal(directory.path(), file)).collect();
    assert!(refused.is_empty(), "\n{refused}");
}

#[test]
fn every_example_is_a_configuration() {
    let files: Vec<_> = std::fs::read_dir(root().join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path().join("moongate.yaml"))
        .filter(|file| file.exists())
        .collect();
    assert!(files.len() > 5, "{files:?}");
    for file in files {
        let folder = tempfile::tempdir().unwrap();
        certs::write(folder.path());
        let copy = folder.path().join("moongate.yaml");
        // Directory and group of the package.
        let text = std::fs::read_to_string(&file).unwrap().replace("group: moongate", "group: root");
        let log = folder.path().display().to_string();
        std::fs::write(&copy, text.replace("/var/log/moongate", &log)).unwrap();
        let report = refusal(folder.path(), &copy);
        assert_eq!(report, None, "{}", file.display());
    }
}

/// The YAML files below a directory.
fn configurations(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { configurations(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
}

/// The report of `moongate check` about a file, if it is invalid.
fn refusal(folder: &Path, file: &Path) -> Option<String> {
    let check = Command::new(env!("CARGO_BIN_EXE_moongate"))
        .args(["check", "-c"])
        .arg(file)
        .current_dir(folder)
        // The examples have their token there.
        .env("MOONGATE_ADMIN_TOKEN", "secret")
        .output()
        .unwrap();
    (!check.status.success()).then(|| String::from_utf8_lossy(&check.stderr).into_owned())
}

#[test]
fn no_block_escapes() {
    for page in pages() {
        for block in &page.blocks {
            let place = format!("{}:{}", page.name, block.line);
            match block.info.as_str() {
                "console" | "nginx" | "rust" => {}
                "console,ignore-run" => {
                    for command in block.commands() {
                        let known = NOT_RUN.iter().any(|(start, _)| command.text.starts_with(start));
                        assert!(known, "{place}: `{}` is not run, and no reason is listed", command.text);
                    }
                }
                _ if ["yaml", "lua", "text", "nginx"].contains(&block.language()) => {}
                other => panic!("{place}: a block of an unknown sort: `{other}`"),
            }
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    let broken: Vec<_> = pages().iter().flat_map(links::broken).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

/// docs/SUMMARY.md, the contents of the book, has every page of docs/ once and no other.
#[test]
fn the_book_has_every_page() {
    let summary = Page::read("docs/SUMMARY.md");
    let mut contents: Vec<_> = links::files(&summary).map(|file| format!("docs/{file}")).collect();
    let pages = pages().into_iter().map(|page| page.name);
    let mut there: Vec<_> =
        pages.filter(|name| name.starts_with("docs/") && name != "docs/SUMMARY.md").collect();
    contents.sort();
    there.sort();
    assert_eq!(contents, there);
}

#[test]
fn links_lead_from_the_readme_to_every_page() {
    let pages: HashMap<_, _> =
        pages().into_iter().map(|page| (root().join(&page.name).canonicalize().unwrap(), page)).collect();
    let readme = root().join("README.md").canonicalize().unwrap();
    let (mut reached, mut next) = (HashSet::from([readme.clone()]), vec![readme]);
    while let Some(path) = next.pop() {
        let Some(page) = pages.get(&path) else { continue };
        for file in links::files(page) {
            let Ok(target) = path.parent().unwrap().join(file).canonicalize() else { continue };
            if reached.insert(target.clone()) {
                next.push(target);
            }
        }
    }
    // The book's contents are not a page.
    let lost: BTreeSet<_> = pages
        .iter()
        .filter(|(path, page)| !reached.contains(*path) && page.name != "docs/SUMMARY.md")
        .map(|(_, page)| &page.name)
        .collect();
    assert!(lost.is_empty(), "no link leads to {lost:?}");
}

/// Every key of the schema is on one of the reference pages.
#[test]
fn every_key_is_described() {
    let schema = Command::new(env!("CARGO_BIN_EXE_moongate")).arg("schema").output().unwrap();
    let schema: serde_json::Value =
        serde_json::from_slice(&schema.stdout).expect("`moongate schema` prints JSON");
    let mut keys = BTreeSet::new();
    collect(&schema, &mut keys);
    assert!(keys.contains("upstreams"), "the schema has no keys: {keys:?}");
    let is_reference = |page: &Page| {
        page.name == "docs/reference/configuration.md" || page.name.starts_with("docs/reference/plugins/")
    };
    let described: String = pages().into_iter().filter(is_reference).map(|page| page.text).collect();
    let missing: Vec<_> = keys.iter().filter(|key| !described.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "the reference says nothing about {missing:?}");
}

fn collect(schema: &serde_json::Value, keys: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(fields) => {
            if let Some(serde_json::Value::Object(properties)) = fields.get("properties") {
                keys.extend(properties.keys().cloned());
            }
            fields.values().for_each(|value| collect(value, keys));
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| collect(value, keys)),
        _ => {}
    }
}

/// The Makefile's own command for `make run` is executed.
#[test]
fn make_run_is_the_demo_with_the_shipped_configuration() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    assert!(
        makefile.contains("-- demo -c $(CONF)\n")
            && makefile.contains("CONF         ?= conf/moongate.yaml\n")
    );
}

fn runs(name: &str) {
    let page = Page::read(name);
    if name == "docs/reference/luau.md" && !cfg!(feature = "luau") {
        eprintln!("{name} is not run: this build is without Luau");
        return;
    }
    let Some(mut session) = Session::open() else {
        eprintln!("{name} is not run: curl or bash is missing");
        return;
    };
    for block in &page.blocks {
        match block.info.as_str() {
            "console" if needs_a_host(&block.text) => {
                eprintln!(
                    "{}:{} is not run: this build is without Luau or WebAssembly",
                    page.name, block.line
                );
            }
            "console" => session.run(&page.name, block),
            _ => session.keep(block),
        }
    }
    session.end();
}

macro_rules! pages_run {
    ($($test:ident: $name:literal,)*) => {
        $(#[test] fn $test() { runs($name) })*

        #[test]
        fn no_page_is_left_out() {
            let run: BTreeSet<_> = [$($name),*].into_iter().map(str::to_owned).collect();
            // Those of docs/guides/apps/ and examples/ need the application: tests/apps runs them.
            let of_application = |page: &Page| page.name.starts_with("docs/guides/apps/") || page.name.starts_with("examples/");
            let with_commands = |page: &Page| !of_application(page) && page.blocks.iter().any(|block| block.info == "console");
            let there: BTreeSet<_> = pages().into_iter().filter(with_commands).map(|page| page.name).collect();
            assert_eq!(there.difference(&run).collect::<Vec<_>>(), Vec::<&String>::new());
        }
    };
}

pages_run! {
    contributing_runs: "CONTRIBUTING.md",
    the_readme_runs: "README.md",
    concepts_health_checks_runs: "docs/concepts/health-checks.md",
    getting_started_runs: "docs/getting-started.md",
    guides_authentication_runs: "docs/guides/authentication.md",
    guides_behind_a_load_balancer_runs: "docs/guides/behind-a-load-balancer.md",
    guides_drain_and_deploy_runs: "docs/guides/drain-and-deploy.md",
    guides_failover_runs: "docs/guides/failover.md",
    guides_from_caddy_runs: "docs/guides/from-caddy.md",
    guides_from_haproxy_runs: "docs/guides/from-haproxy.md",
    guides_from_nginx_runs: "docs/guides/from-nginx.md",
    guides_from_traefik_runs: "docs/guides/from-traefik.md",
    guides_rate_limits_runs: "docs/guides/rate-limits.md",
    guides_reconnect_storms_runs: "docs/guides/reconnect-storms.md",
    guides_serve_under_a_subpath_runs: "docs/guides/serve-under-a-subpath.md",
    guides_sticky_sessions_runs: "docs/guides/sticky-sessions.md",
    guides_websocket_cluster_runs: "docs/guides/websocket-cluster.md",
    guides_write_a_plugin_runs: "docs/guides/write-a-plugin.md",
    install_runs: "docs/install.md",
    operations_running_runs: "docs/operations/running.md",
    project_conformance_runs: "docs/project/conformance.md",
    project_contributing_runs: "docs/project/contributing.md",
    reference_admin_api_runs: "docs/reference/admin-api.md",
    reference_cli_runs: "docs/reference/cli.md",
    reference_configuration_runs: "docs/reference/configuration.md",
    reference_luau_runs: "docs/reference/luau.md",
}

#[test]
fn an_ellipsis_stands_for_anything() {
    for (expected, actual) in
        [("a…c", "a b c\n"), ("…b…", "abc"), ("a\n…", "a"), ("a\n…", "a\nb"), ("a", "a\n")]
    {
        assert!(page::shows(expected, actual), "{expected:?} {actual:?}");
    }
    for (expected, actual) in [("a", "ab"), ("a…c", "a"), ("a…b…c", "acb"), ("ab…bc", "abc")] {
        assert!(!page::shows(expected, actual), "{expected:?} {actual:?}");
    }
}

/// The cells of a table's rows in a section of a page.
fn rows_of_section<'a>(page: &'a str, section: &str) -> Vec<Vec<&'a str>> {
    let part = page.split("\n## ").find(|part| part.starts_with(section));
    let part = part.unwrap_or_else(|| panic!("no section {section}"));
    let rows = part.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|line| line.trim_matches(['|', ' ']).split(" | ").collect()).collect()
}

/// The fixed Close frames of a section, as code and reason: those of its rows that name both.
fn fixed_frames(page: &str, section: &str) -> BTreeSet<(u16, String)> {
    let rows = rows_of_section(page, section).into_iter();
    let frame = |row: Vec<&str>| {
        let text = row[1].strip_prefix('`')?.strip_suffix('`')?;
        Some((row[0].parse().ok()?, text.to_owned()))
    };
    rows.filter_map(frame).collect()
}

/// The Close frames of the gateway equal those of the page; clients retry after those that a lost backend or a drain
/// causes, and 1014 is never sent.
#[test]
fn every_close_frame_is_described() {
    let page = std::fs::read_to_string(root().join("docs/reference/close-codes.md")).unwrap();
    for (section, frames) in [
        ("Close frames to clients", close_frames::TO_CLIENTS),
        ("Close frames to backends", close_frames::TO_BACKENDS),
    ] {
        let code: BTreeSet<_> = frames.iter().map(|frame| (frame.code, frame.text.to_owned())).collect();
        assert_eq!(fixed_frames(&page, section), code, "{section}");
    }
    for row in rows_of_section(&page, "Close frames to clients") {
        let expected = match row[0].parse::<u16>() {
            Ok(1001 | 1005 | 1006 | 1012 | 1013) => "yes",
            Ok(code) => {
                assert_ne!(code, 1014);
                "no"
            }
            Err(_) => "by the code",
        };
        assert_eq!(row[3], expected, "{row:?}");
    }
}

/// The protocol errors equal those of the page.
#[test]
fn every_protocol_error_is_described() {
    const ERRORS: [FrameError; 16] = [
        FrameError::ReservedBits,
        FrameError::ReservedOpcode(3),
        FrameError::Unmasked,
        FrameError::Masked,
        FrameError::FragmentedControl,
        FrameError::LongControl,
        FrameError::LengthNotMinimal,
        FrameError::LengthTopBit,
        FrameError::LoneContinuation,
        FrameError::InterleavedMessage,
        FrameError::CloseBody,
        FrameError::CloseCode(1005),
        FrameError::CloseReason,
        FrameError::Text,
        FrameError::FrameTooBig,
        FrameError::MessageTooBig,
    ];
    let source = std::fs::read_to_string(root().join("src/websocket/frame/frame_error.rs")).unwrap();
    let variants = source.split("pub enum FrameError {").nth(1).unwrap().matches("#[error(").count();
    assert_eq!(variants, ERRORS.len());
    let page = std::fs::read_to_string(root().join("docs/reference/close-codes.md")).unwrap();
    let described = rows_of_section(&page, "Protocol errors").into_iter().map(|row| {
        let text = row[1].split('`').nth(1).unwrap().to_owned();
        (row[0].parse::<u16>().unwrap(), text)
    });
    let code = ERRORS.map(|error| {
        let text = error.to_string();
        (error.close_code(), text.replace("opcode 3", "opcode N").replace("1005", "N"))
    });
    assert_eq!(described.collect::<BTreeSet<_>>(), BTreeSet::from(code));
}

/// The reasons of ended WebSockets equal those of the page, and each is a reason of a Close frame, of an end without one, or
/// of a side that closed.
#[test]
fn every_reason_of_an_end_is_described() {
    let page = std::fs::read_to_string(root().join("docs/reference/close-codes.md")).unwrap();
    let source = std::fs::read_to_string(root().join("src/tunnel/outcome.rs")).unwrap();
    let tokens = source.split("pub fn token(self)").nth(1).unwrap().split("\n    }\n").next().unwrap();
    // A moved WebSocket has not ended.
    let tokens: BTreeSet<&str> =
        tokens.split('"').skip(1).step_by(2).filter(|token| *token != "moved").collect();
    assert!(tokens.len() > 20, "{tokens:?}");
    let names = |cells: &[&str]| -> BTreeSet<String> {
        cells.iter().flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
    };
    let mut described = BTreeSet::new();
    for row in rows_of_section(&page, "Reasons in the access log") {
        described.extend(names(&row[..1]));
    }
    assert_eq!(described, tokens.iter().map(|token| (*token).to_owned()).collect());
    let mut caused = names(&["`close`"]);
    for row in rows_of_section(&page, "Close frames to clients") {
        caused.extend(names(&row[4..]));
    }
    for row in rows_of_section(&page, "Ends without a Close frame") {
        caused.extend(names(&row[1..2]));
    }
    let unexplained: Vec<_> = described.difference(&caused).collect();
    assert!(unexplained.is_empty(), "{unexplained:?}");
}

/// The reasons in the sources of plugins equal those of the pages, with the same statuses.
#[test]
fn every_reason_of_a_plugin_is_documented() {
    let page = std::fs::read_to_string(root().join("docs/reference/errors.md")).unwrap();
    let table = page.lines().skip_while(|line| !line.starts_with("| reason of a plugin |")).skip(2);
    let mut rows: Vec<(String, String)> = Vec::new();
    for line in table.take_while(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.split('|').map(|cell| cell.trim().replace('`', "")).collect();
        rows.extend(cells[3].split(", ").map(|plugin| (cells[1].clone(), plugin.to_owned())));
    }
    let mut used = Vec::new();
    for entry in std::fs::read_dir(root().join("plugins")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        let plugin = path.file_stem().unwrap().to_str().unwrap().to_owned();
        for call in source.split("refuse(").skip(1) {
            // The status, then the reason.
            let arguments = call.split(')').next().unwrap_or_default();
            if let Some(reason) = arguments.split('"').nth(1) {
                used.push((reason.to_owned(), plugin.clone()));
            }
        }
    }
    assert!(used.len() > 10, "{used:?}");
    rows.sort();
    used.sort();
    used.dedup();
    assert_eq!(used, rows);
}

/// The rows of a page's tables that name a case of the benchmark: the case, and the other cells.
fn rows_of_cases(page: &str) -> Vec<(String, Vec<String>)> {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let cells = |line: &str| -> Vec<String> { line.split('|').map(|cell| cell.trim().to_owned()).collect() };
    let rows = text.lines().filter(|line| line.starts_with("| ")).map(cells);
    let case = |cells: &Vec<String>| {
        let cell = cells.iter().find(|cell| cell.starts_with('`'))?;
        Some(cell.split('`').nth(1)?.to_owned())
    };
    rows.filter_map(|cells| Some((case(&cells)?, cells))).collect()
}

/// The figures of the sizing page and of the README are those of the benchmarks.
#[test]
fn every_figure_is_that_of_the_benchmarks() {
    let text = std::fs::read_to_string(root().join("docs/project/benchmarks.md")).unwrap();
    let figures = text.split("\n## Figures\n").nth(1).unwrap();
    let measured: HashMap<String, Vec<&str>> = figures
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| (line.split('`').next().unwrap().to_owned(), line.split('|').map(str::trim).collect()))
        // The first table has one figure of each gateway.
        .fold(HashMap::new(), |mut all, (case, cells)| {
            all.entry(case).or_insert(cells);
            all
        });
    let mut compared = 0;
    for (case, cells) in rows_of_cases("docs/operations/sizing.md") {
        if let Some(cases) = measured.get(&case) {
            assert!(cells.iter().any(|cell| cell == cases[4]), "{case}: {} is not in {cells:?}", cases[4]);
            compared += 1;
        }
    }
    assert!(compared > 10, "{compared}");
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let table = readme.split("\n## Benchmarks\n").nth(1).unwrap().split("\n## ").next().unwrap();
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let figures: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).skip(1).take(4).collect();
        assert!(
            measured.values().any(|cells| cells[1..].starts_with(&figures)),
            "not in the benchmarks: {row}"
        );
    }
}
