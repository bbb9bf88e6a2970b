//! Settings, sandbox and libraries of scripts.

use super::*;
use std::fs;

#[test]
fn a_syntax_error_is_a_problem_with_the_scripts_line() {
    let problem = wrong(json!({ "source": "function request_headers(req)\n  if then\nend" }));
    assert!(problem.contains("source:2: expected"), "{problem}");
}

#[test]
fn an_error_during_loading_is_a_problem_with_its_line() {
    let problem = wrong(json!({ "source": "local a = nil\na.b = 1" }));
    assert!(problem.contains("source:2: attempt to index nil with 'b'"), "{problem}");
    let problem = wrong(json!({ "source": "while true do end" }));
    assert!(problem.contains("source:1: the call ran longer than 20ms"), "{problem}");
}

#[test]
fn a_script_without_a_phase_gets_a_suggestion() {
    let problems = built(json!({ "source": "function request_header(req) end" })).err().unwrap();
    assert_eq!(problems.0[0].label.as_deref(), Some("did you mean `request_headers`?"));
    assert!(wrong(json!({ "source": "" })).contains("no function for any phase"));
    assert!(wrong(json!({ "source": "log = 7" })).contains("`log` is a number, not a function"));
}

#[test]
fn the_functions_decide_the_phases() {
    let phases = plugin("function log(req, res) end").phases();
    assert!(phases.log && !phases.request_headers && !phases.messages_to_client);
    let phases = plugin("function request_body(req, body) end function message(ws, msg) end").phases();
    assert!(phases.request_headers && !phases.request_body, "the head is where a body is asked for");
    assert!(phases.messages_to_backend && phases.messages_to_client && !phases.closed);
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let source = "function log() end";
    for (written, words) in [
        (json!({}), "has no script"),
        (json!({ "source": source, "script": "x.luau" }), "both set"),
        (json!({ "script": "there/is/none.luau" }), "cannot read `there/is/none.luau`"),
        (json!({ "source": source, "limits": { "cpu": "0" } }), "`cpu` must be from 1ms to 10s"),
        (json!({ "source": source, "limits": { "memory": "1KiB" } }), "`memory` must be from 512KiB"),
        (json!({ "source": source, "limits": { "body": "32MiB" } }), "`body` must not be more"),
        (json!({ "source": source, "config": "x" }), "`config` must be a mapping"),
        (json!({ "source": source, "recheck": "5m" }), "`recheck` needs the function `request_headers`"),
        (json!({ "source": source, "recheck": "1ms" }), "`recheck` must be at least 1s"),
    ] {
        let problem = wrong(written);
        assert!(problem.contains(words), "{problem}");
    }
}

#[test]
fn a_script_is_a_file_or_inline() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hello.luau");
    fs::write(&file, "function request_headers(req)\n\n  req:nothing()\nend").unwrap();
    let plugin = built(json!({ "script": file.to_str().unwrap() })).ok().unwrap();
    let fault = fault(&*plugin, &mut TestExchange::new("/"));
    assert!(fault.contains("hello.luau:3: attempt to call missing method 'nothing'"), "{fault}");
    fs::write(&file, b"\xff").unwrap();
    assert!(wrong(json!({ "script": file.to_str().unwrap() })).contains("is not UTF-8 text"));
}

#[test]
fn the_least_memory_is_enough_for_a_small_script() {
    let source = "function request_headers(req) req:respond(200, 'small') end";
    let plugin = built(json!({ "source": source, "limits": { "memory": "512KiB", "body": "64KiB" } }));
    assert_eq!(TestExchange::new("/").expect_reply(&*plugin.ok().unwrap()).body, "small");
}

#[test]
fn config_is_a_read_only_table() {
    let written = json!({
        "source": "function request_headers(req) req:respond(200, config.teams[2] .. config.limit) end",
        "config": { "teams": ["blue", "red"], "limit": 7 },
    });
    let plugin = built(written).ok().unwrap();
    assert_eq!(TestExchange::new("/").expect_reply(&*plugin).body, "red7");
    assert!(raises("config.a = 1").contains("attempt to modify a readonly table"));
}

#[test]
fn the_sandbox_has_no_access_to_the_system() {
    for name in ["io", "debug", "require", "loadstring", "getfenv", "setfenv", "newproxy", "collectgarbage"] {
        assert_eq!(says(&format!("req:respond(200, type({name}))")), "nil", "{name}");
    }
    for name in ["execute", "getenv", "exit", "remove", "rename", "tmpname"] {
        assert_eq!(says(&format!("req:respond(200, type(os.{name}))")), "nil", "os.{name}");
    }
    for write in ["string.rep = nil", "json.decode = nil", "getmetatable('').__index = nil"] {
        assert!(raises(write).contains("source:2: attempt to"), "{write}");
    }
}

#[test]
fn json_is_encoded_and_decoded() {
    let body = r#"
        local t = json.decode('{"a":[1,2.5,"x",null,true],"e":[],"o":{}}')
        assert(t.a[4] == json.null and #t.a == 5)
        req:respond(200, json.encode({ t.a, t.e, t.o, 7, 1e300 }))"#;
    assert_eq!(says(body), r#"[[1,2.5,"x",null,true],[],{},7,1e+300]"#);
    for (body, words) in [
        ("json.decode('{')", "source:2: this is not JSON"),
        ("json.decode(string.rep('[', 100000))", "recursion limit"),
        ("local t = {} t[1] = t json.encode(t)", "too deep"),
        ("json.encode({ [true] = 1 })", "keys of an object must be strings"),
        ("json.encode(0/0)", "not finite"),
        ("json.encode(req)", "cannot be JSON"),
        ("json.encode('\\255')", "not UTF-8"),
    ] {
        assert!(raises(body).contains(words), "{body}: {}", raises(body));
    }
}

#[test]
fn hashes_and_encodings_are_the_usual_ones() {
    let body = r#"
        assert(base64.encode("\255\254") == "//4=" and base64.encode_url("\255\254") == "__4")
        assert(base64.decode("//4=") == "\255\254" and base64.decode("__4") == "\255\254")
        assert(base64.decode("*") == nil)
        assert(crypto.equal("a", "a") and not crypto.equal("a", "b") and not crypto.equal("a", "ab"))
        assert(#crypto.sha512("") == 128 and time.now() > 1.7e9)
        req:respond(200, crypto.sha256("abc") .. " " .. crypto.hmac_sha256("Jefe", "what do ya want for nothing?"))"#;
    // FIPS 180-4's example and RFC 4231's test case 2.
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad \
                    5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(says(body), expected);
}

/// The script in plugins/README.md.
#[test]
fn the_script_in_the_readme_works() {
    let readme = include_str!("../../../../plugins/README.md");
    let script = readme.split("```lua\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let plugin = built(json!({ "source": script, "config": { "word": "sesame" } })).ok().unwrap();
    assert!(matches!(
        TestExchange::new("/").field("x-password", "sesame").request_headers(&*plugin),
        Verdict::Continue
    ));
    let reply = TestExchange::new("/").field("x-password", "please").expect_reply(&*plugin);
    assert_eq!(
        (reply.status.as_u16(), &reply.headers["www-authenticate"]),
        (401, &"Password".parse().unwrap())
    );
}
