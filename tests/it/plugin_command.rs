//! `moongate plugin`: its templates compile and run, and its trial reports what the plugin did.

use crate::support::moongate;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// The template of a native plugin, compiled and tested unchanged.
#[path = "../../src/cli/plugin/scaffold/native/lib.rs"]
#[allow(unreachable_pub, dead_code, clippy::unwrap_used, reason = "it is a crate of its own")]
mod my_plugin;

/// The gateway with it.
#[allow(dead_code, unreachable_pub, reason = "compiling it is the test")]
mod gateway {
    use super::my_plugin;
    include!("../../src/cli/plugin/scaffold/native/main.rs.txt");
}

/// Runs the command in `directory`.
fn within(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_moongate"))
        .args(arguments)
        .current_dir(directory)
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn nothing_is_overwritten_and_no_odd_name_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    for sort in [&["plugin", "new", "mine"][..], &["plugin", "new", "mine", "--luau"]] {
        let _ = within(directory.path(), sort);
    }
    let again = within(directory.path(), &["plugin", "new", "mine", "--wasm"]);
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(both(&again), "error: `mine` already exists; nothing was written\n");
    assert!(!directory.path().join("mine/mine.luau").exists(), "the first one stays as it is");
    for name in ["../up", "a/b", "1st", "", "a b", ".."] {
        let refused = within(directory.path(), &["plugin", "new", name]);
        assert_eq!(refused.status.code(), Some(1), "{name}");
        assert!(both(&refused).contains("is not a valid plugin name"), "{name}: {}", both(&refused));
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_new_native_plugin_bears_its_name_everywhere() {
    let directory = tempfile::tempdir().unwrap();
    let made = within(directory.path(), &["plugin", "new", "Tenant-header"]);
    assert!(made.status.success(), "{}", both(&made));
    let read = |file: &str| fs::read_to_string(directory.path().join("Tenant-header").join(file)).unwrap();
    assert!(read("Cargo.toml").contains("name = \"tenant_header\""));
    assert!(read("src/lib.rs").contains("struct TenantHeader {"));
    assert!(read("src/main.rs").contains("and(&[tenant_header::KIND])"));
    assert!(read("moongate.yaml").contains("kind: tenant_header"));
    for file in ["Cargo.toml", "src/lib.rs", "src/main.rs", "moongate.yaml"] {
        assert!(!read(file).contains("my_plugin"), "{file}");
    }
}

#[test]
fn a_new_filter_is_a_crate_of_the_stock_sdk() {
    let directory = tempfile::tempdir().unwrap();
    let made = within(directory.path(), &["plugin", "new", "tenant", "--wasm"]);
    assert!(made.status.success(), "{}", both(&made));
    let manifest = fs::read_to_string(directory.path().join("tenant/Cargo.toml")).unwrap();
    assert!(manifest.contains("proxy-wasm = \"0.2\"") && manifest.contains("cdylib"));
}

#[test]
fn a_kind_of_the_build_is_tried_with_its_settings() {
    let settings = r#"{ "request": { "set": { "X-A": "{method}" }, "remove": ["X-Gone"] } }"#;
    let request = ["--request", "POST /a?b", "-H", "x-gone: 1", "-H", "x-a: old"];
    let tried =
        moongate(&[&["plugin", "test", "--kind", "headers", "--config", settings][..], &request].concat());
    let expected = "\
request POST /a?b
  - x-gone: 1
  ~ x-a: old -> POST
response 200
  nothing
";
    assert_eq!(both(&tried), expected);
    assert!(tried.status.success());
}

#[test]
fn a_plugin_that_cannot_be_tried_is_reported() {
    for (arguments, code, words) in [
        (&["--kind", "headres"][..], 78, "unknown plugin `headres`"),
        (&["--kind", "headers"], 78, "`headers` changes nothing"),
        (&["--kind", "headers", "--config", "{"], 78, "`--config` is not JSON"),
        (&["--kind", "headers", "--config", "7"], 78, "must be a JSON object"),
        (&["x.txt"], 78, "unknown type of plugin file"),
        (&[], 2, "required"),
        (&["--kind", "request_id", "--request", "G@T /"], 2, "`G@T` is not an HTTP method"),
        (&["--kind", "request_id", "-H", "x"], 2, "is not `name: value`"),
        (&["--kind", "request_id", "--body", "@/there/is/none"], 2, "cannot read `/there/is/none`"),
    ] {
        let tried = moongate(&[&["plugin", "test"][..], arguments].concat());
        assert_eq!(tried.status.code(), Some(code), "{arguments:?}: {}", both(&tried));
        assert!(both(&tried).contains(words), "{arguments:?}: {}", both(&tried));
    }
}

#[cfg(feature = "luau")]
mod luau {
    use super::*;

    #[test]
    fn a_new_script_checks_and_runs() {
        let directory = tempfile::tempdir().unwrap();
        let made = within(directory.path(), &["plugin", "new", "my-filter", "--luau"]);
        assert!(made.status.success(), "{}", both(&made));
        let checked = within(directory.path(), &["check", "-c", "my-filter/moongate.yaml"]);
        assert!(checked.status.success(), "{}", both(&checked));
        let tried = within(
            directory.path(),
            &["plugin", "test", "my-filter/my-filter.luau", "--config", r#"{"greeting":"ahoy"}"#],
        );
        let expected = "\
request GET /
  + x-greeting: ahoy
response 200
  + x-greeting: ahoy
";
        assert_eq!(both(&tried), expected);
    }

    /// One script with every function, and the report about it.
    #[test]
    fn a_trial_reports_all_that_a_script_does() {
        let directory = tempfile::tempdir().unwrap();
        let script = r#"
function request_headers(req)
	req:remove_header("x-gone")
	req:set_header("x-team", "red")
	req:set_target("/new?c=d")
	req:set_method("PUT")
	req:note("team", "red")
	logger.warn("seen", req:client_ip())
	local answer, why = call { upstream = "auth", path = "/who" }
	logger.info(tostring(answer), why)
end
function request_body(req, body)
	body:set(body:data():upper())
end
function response_headers(req, res)
	res:set_status(201)
	res:add_header("x-new", "1")
end
function response_body(req, body)
	body:set(#body:data() .. " bytes")
end
function message(ws, msg)
	if msg:data() == "drop" then return ws:drop() end
	if msg:data() == "close" then return ws:close(4000, "enough") end
	if msg:to_client() then return msg:set_binary("\0\255") end
	msg:set("<" .. msg:data() .. ">")
end
function closed(ws, ended) print("closed", ended.code, ended.messages.to_backend) end
function log(req, res) print("over", res:status()) end
"#;
        fs::write(directory.path().join("all.luau"), script).unwrap();
        let test = |more: &[&str]| {
            let first = [
                "plugin",
                "test",
                "all.luau",
                "--request",
                "POST /a?b",
                "-H",
                "x-gone: 1",
                "-H",
                "x-team: blue",
            ];
            within(directory.path(), &[&first[..], more].concat())
        };
        let tried = test(&["--body", "hello", "--response-body", "twelve bytes"]);
        let expected = "\
request POST /a?b
  - x-gone: 1
  ~ x-team: blue -> red
  ~ method: POST -> PUT
  ~ target: /a?b -> /new?c=d
  ~ body: \"hello\" -> \"HELLO\"
  log warn: script logged script=all.luau said=seen 127.0.0.1
  call GET /who to the upstream auth: not sent, since `plugin test` has no upstreams
  log info: script logged script=all.luau said=nil connection failed
response 200
  ~ status: 200 -> 201
  + x-new: 1
  ~ body: \"twelve bytes\" -> \"12 bytes\"
log
  log info: script logged script=all.luau said=over 201
notes
  team: red
";
        assert_eq!(both(&tried), expected);
    }

    #[test]
    fn messages_responses_and_faults_are_reported_too() {
        let directory = tempfile::tempdir().unwrap();
        let script = r#"
function request_headers(req)
	if req:path() == "/no" then return req:respond(403, "no\n", { vary = "x" }) end
	if req:path() == "/bad" then local t = nil; t.x = 1 end
end
function message(ws, msg)
	if msg:data() == "drop" then return ws:drop() end
	if msg:data() == "close" then return ws:close(4000, "enough") end
	if msg:to_client() then return msg:set_binary("\0\255") end
	msg:set("<" .. msg:data() .. ">")
end
function closed(ws, ended) print("closed", ended.code, ended.messages.to_backend) end
"#;
        fs::write(directory.path().join("ws.luau"), script).unwrap();
        let test =
            |more: &[&str]| within(directory.path(), &[&["plugin", "test", "ws.luau"][..], more].concat());
        let tried = test(&[
            "--message",
            "a",
            "--message",
            "drop",
            "--backend-message",
            "b",
            "--backend-message",
            "close",
        ]);
        let expected = "\
request GET /
  nothing
response 101
  nothing
message to the backend \"a\"
  ~ payload: \"a\" -> \"<a>\"
message to the backend \"drop\"
  dropped
message to the client \"b\"
  ~ type: text -> binary
  ~ payload: \"b\" -> 2 bytes
message to the client \"close\"
  close 4000 enough
closed 4000
  log info: script logged script=ws.luau said=closed 4000 2
";
        assert_eq!(both(&tried), expected);
        let tried = test(&["--request", "/no"]);
        let expected = "\
request GET /no
  respond 403
    vary: x
    \"no\\n\"
response 403
  nothing
";
        assert_eq!(both(&tried), expected);
        let tried = test(&["--request", "/bad"]);
        let expected = "\
request GET /bad
  fault: ws.luau:4: attempt to index nil with 'x'
";
        assert_eq!((both(&tried).as_str(), tried.status.code()), (expected, Some(1)));
    }
}

#[cfg(not(feature = "luau"))]
#[test]
fn a_build_without_luau_explains_how_to_get_it() {
    let tried = moongate(&["plugin", "test", "x.luau"]);
    assert_eq!(tried.status.code(), Some(78));
    assert!(both(&tried).contains("this build of moongate has no `luau`"), "{}", both(&tried));
}
