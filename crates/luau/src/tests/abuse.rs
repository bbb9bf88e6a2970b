//! Misbehaving scripts: each fails its own call and affects no other.

use super::*;
use http::StatusCode;
use moongate_sdk::RequestState;
use std::time::Instant;

/// Runs the phase repeatedly, with a new request each time.
fn ask(plugin: &dyn Plugin, target: &str) -> Verdict {
    TestExchange::new(target).request_headers(plugin)
}

#[test]
fn a_call_that_runs_too_long_is_ended() {
    for body in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local co = coroutine.wrap(function() while true do end end) co()",
        "string.find(string.rep('a', 3e4), string.rep('a*', 40) .. 'b')",
        "local t = table.create(1e5, 1) while true do table.sort(t) end",
        "while true do json.decode('[1,2]') end",
        "json.decode('[' .. string.rep('[1],', 1e6) .. '1]')",
        "while true do req:header('x') end",
    ] {
        let begun = Instant::now();
        let raised = raises(body);
        assert!(
            raised.contains("the call ran longer than 20ms") || raised.contains("memory"),
            "{body}: {raised}"
        );
        assert!(begun.elapsed().as_secs() < 5, "{body} took {:?}", begun.elapsed());
    }
}

#[test]
fn a_search_that_would_take_hours_is_refused() {
    for body in [
        "local _ = string.find(string.rep('a', 4e6), string.rep('a', 4e6 - 1) .. 'b', 1, true)",
        "local _ = string.rep('a', 4e6):find(string.rep('a', 2e6) .. 'b')",
        "local _ = string.split(string.rep('a', 4e6), string.rep('a', 2e6) .. 'b')",
    ] {
        assert!(raises(body).contains("source:2: these texts are too long for a search"), "{}", raises(body));
    }
    assert_eq!(says("req:respond(200, table.concat({ ('a.b'):find('.', 1, true) }, ' '))"), "2 2");
    assert_eq!(says("req:respond(200, table.concat(('a,b'):split(','), ' '))"), "a b");
}

#[test]
fn a_range_that_would_take_minutes_to_move_is_refused() {
    for range in ["1, 2e9", "'1', '2e9'"] {
        let raised = raises(&format!("table.move({{}}, {range}, 2)"));
        assert!(raised.contains("source:2: this range is too long to move"), "{range}: {raised}");
    }
    assert_eq!(says("req:respond(200, table.concat(table.move({ 'a', 'b' }, 1, 2, 2), ' '))"), "a a b");
}

#[test]
fn the_state_that_ran_too_long_is_made_anew() {
    let plugin = plugin(
        "count = 0
         function request_headers(req)
            count += 1
            if req:path() == '/spin' then while true do end end
            req:note('count', tostring(count))
         end",
    );
    let count = |target| {
        let mut visit = TestExchange::new(target);
        visit.request_headers(&*plugin);
        visit.running.notes().first().map(|note| note.value.clone())
    };
    assert_eq!((count("/").as_deref(), count("/").as_deref()), (Some("1"), Some("2")));
    assert_eq!(count("/spin"), None);
    assert_eq!(count("/").as_deref(), Some("1"));
}

#[test]
fn a_script_that_eats_memory_is_ended_and_gets_a_fresh_state() {
    let source = "hoard = {}
         function request_headers(req)
            if req:path() ~= '/eat' then return end
            while true do table.insert(hoard, string.rep('x', 1e6) .. #hoard) end
         end";
    let plugin = built(json!({ "source": source, "limits": { "cpu": "10s" } })).ok().unwrap();
    for _ in 0..3 {
        let fault = fault(&*plugin, &mut TestExchange::new("/eat"));
        assert!(fault.contains("the call needed more than 16384 KiB of memory"), "{fault}");
        assert!(matches!(ask(&*plugin, "/"), Verdict::Continue));
    }
    for body in ["local s = 'x' while true do s = s .. s end", "local t = {} while true do t = { t } end"] {
        let raised = raises(body);
        assert!(raised.contains("memory") || raised.contains("longer"), "{body}: {raised}");
    }
}

#[test]
fn ctx_of_others_outlives_a_call_that_ran_too_long() {
    let plugin = plugin(
        "function request_headers(req)
            req:ctx().mine = 'kept'
            if req:path() == '/spin' then while true do end end
         end
         function log(req, res) req:note('mine', tostring(req:ctx().mine)) end",
    );
    let mut patient = TestExchange::new("/");
    patient.request_headers(&*plugin);
    assert!(matches!(ask(&*plugin, "/spin"), Verdict::Failed(_)));
    patient.with_exchange(|exchange| plugin.log(exchange, None));
    assert_eq!(patient.running.notes()[0].value, "kept");
}

#[test]
fn a_handle_of_an_earlier_call_is_an_error() {
    let plugin = plugin(
        "function request_headers(req)
            if kept then kept:set_header('x-stolen', '1') end
            kept = req
         end",
    );
    assert!(matches!(ask(&*plugin, "/"), Verdict::Continue));
    let fault = fault(&*plugin, &mut TestExchange::new("/"));
    assert!(fault.contains("source:2: this handle is from an earlier call"), "{fault}");
}

#[test]
fn a_handle_is_good_for_its_phase_only() {
    let plugin = plugin(
        "function request_headers(req) kept = req end
         function response_headers(req, res) req:set_header('x', '1') end
         function log(req, res) local _ = req:path() res:set_header('x', '1') end",
    );
    let mut visit = TestExchange::new("/");
    visit.request_headers(&*plugin);
    let Verdict::Failed(fault) = visit.response_headers(&*plugin) else { panic!("a fault was expected") };
    assert!(fault.to_string().contains("can no longer be changed in response_headers"), "{fault}");
    visit.with_exchange(|exchange| plugin.log(exchange, Some(StatusCode::OK)));
    assert!(!visit.response.contains_key("x"));
}

#[test]
fn deep_recursion_and_odd_metatables_are_errors() {
    for body in [
        "local function f() return f() + 1 end f()",
        "setmetatable(_G, {})",
        "local t = setmetatable({}, { __tostring = function() error('x') end }) print(t) error('after')",
        "req:set_header(setmetatable({}, { __tostring = function() return 'x' end }), 'y')",
        "error(req)",
        "error(nil)",
        "local ok, e = pcall(req.set_header, req, 'a b', 'c') error(e)",
        "string.format('%d', 'x')",
        "('x'):rep(1e9)",
    ] {
        assert!(raises(body).starts_with("source"), "{body}: {}", raises(body));
    }
}

/// Resident memory of this process in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("VmRSS: 0");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[test]
fn ten_thousand_failing_requests_leak_nothing() {
    let plugin = plugin(
        "function request_headers(req)
            req:ctx().waste = string.rep('x', 4096)
            if req:path() == '/call' then call {} end
            error(req:path())
         end
         function response_headers(req, res) error(res) end",
    );
    let round = |requests: u32| {
        for n in 0..requests {
            let mut visit = TestExchange::new(if n % 2 == 0 { "/a" } else { "/call" });
            assert!(matches!(visit.request_headers(&*plugin), Verdict::Failed(_)));
            assert!(matches!(visit.response_headers(&*plugin), Verdict::Failed(_)));
            visit.running = RequestState::default();
        }
    };
    round(2_000);
    // Other tests of this process allocate meanwhile; a leak grows in every round.
    let growth = |_| {
        let before = resident();
        round(10_000);
        resident().saturating_sub(before)
    };
    let grown = (0..5).map(growth).min().unwrap();
    assert!(grown < 8 << 10, "{grown} KiB more for 10,000 requests of 4 KiB each");
}

#[test]
fn threads_take_turns_at_a_state() {
    let plugin = plugin(
        "function request_headers(req) req:ctx().path = req:path() for n = 1, 100 do end end
         function response_headers(req, res) res:set_header('x-path', req:ctx().path) end",
    );
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let plugin = &plugin;
            scope.spawn(move || {
                for n in 0..500 {
                    let target = format!("/{thread}/{n}");
                    let mut visit = TestExchange::new(&target);
                    visit.request_headers(&**plugin);
                    visit.response_headers(&**plugin);
                    assert_eq!(visit.response["x-path"], target.as_str());
                }
            });
        }
    });
}
