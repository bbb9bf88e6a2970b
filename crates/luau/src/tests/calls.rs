//! Scripts that wait for their own HTTP requests.

use super::*;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use moongate_sdk::{Call, CallError, CallFuture, CallResponse, CallTarget, Services};
use std::future::{poll_fn, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

/// Responds with the requested path, on the second poll.
#[derive(Default)]
struct Echo(Mutex<Vec<Call>>);

impl Services for Echo {
    fn call(&self, call: Call) -> CallFuture {
        let body = Bytes::from(format!("{} {}", call.method, call.target));
        let known = call.to == CallTarget::Upstream("auth".to_owned());
        self.0.lock().unwrap().push(call);
        if !known {
            return Box::pin(ready(Err(CallError::Unknown)));
        }
        let mut headers = HeaderMap::new();
        headers.insert("x-user", "ada".parse().unwrap());
        let mut called = Some(CallResponse { status: StatusCode::OK, headers, body });
        let mut asleep = true;
        Box::pin(poll_fn(move |context| {
            if std::mem::take(&mut asleep) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(called.take().ok_or(CallError::Bad))
        }))
    }
    fn spawn(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) {}
    fn has_upstream(&self, name: &str) -> bool {
        name == "auth"
    }
}

fn visit(target: &str) -> (TestExchange, Arc<Echo>) {
    let echo = Arc::new(Echo::default());
    let mut visit = TestExchange::new(target);
    visit.services = echo.clone();
    (visit, echo)
}

#[test]
fn a_call_waits_and_resumes_with_the_response() {
    let plugin = plugin(
        r#"function request_headers(req)
            req:ctx().begun = true
            local first = call { upstream = "auth", path = "/first", headers = { ["x-a"] = "1" } }
            local second = call { upstream = "auth", path = "/second", method = "POST", body = "b", timeout = 0.5 }
            assert(req:ctx().begun)
            req:set_header("x-user", first.headers["x-user"] .. first.status)
            req:set_header("x-said", first.body .. ", " .. second.body)
        end
        function response_headers(req, res)
            res:set_header("x-third", call({ upstream = "auth" }).body)
        end"#,
    );
    let (mut visit, echo) = visit("/");
    assert!(matches!(visit.request_headers(&*plugin), Verdict::Continue));
    assert_eq!(visit.request["x-user"], "ada200");
    assert_eq!(visit.request["x-said"], "GET /first, POST /second");
    assert!(matches!(visit.response_headers(&*plugin), Verdict::Continue));
    assert_eq!(visit.response["x-third"], "GET /");
    let calls = echo.0.lock().unwrap();
    assert_eq!((&calls[0].headers["x-a"], &calls[1].body[..]), (&"1".parse().unwrap(), &b"b"[..]));
    assert_eq!((calls[1].timeout.as_millis(), calls[1].limit), (500, 1 << 20));
}

#[test]
fn a_failed_call_returns_nil_and_the_reason() {
    let plugin = plugin(
        r#"function request_headers(req)
            local response, why = call { url = "http://nowhere.invalid/" }
            if not response then req:respond(502, why) end
        end"#,
    );
    assert_eq!(visit("/").0.expect_reply(&*plugin).body, "unknown upstream or invalid URL");
}

#[test]
fn an_error_after_a_call_has_its_line_too() {
    let plugin = plugin(
        "function request_headers(req)\n  call { upstream = 'auth' }\n  local t = nil\n  t.x = 1\nend",
    );
    let fault = fault(&*plugin, &mut visit("/").0);
    assert!(fault.contains("source:4: attempt to index nil"), "{fault}");
}

#[test]
fn invalid_calls_are_errors() {
    for (body, words) in [
        ("call {}", "source:2: `call` needs either `upstream` or `url`"),
        ("call { upstream = 'a', url = 'b' }", "either `upstream` or `url`"),
        ("call { upstream = 'a', tiemout = 1 }", "no option `tiemout`"),
        ("call { upstream = 'a', timeout = 1e9 }", "from 0.001 to 60 seconds"),
        ("call { upstream = 'a', path = 'x' }", "begins with `/`"),
        ("call { upstream = 'a', method = 'a b' }", "not a method"),
        ("call { upstream = 'a', headers = { ['a b'] = 'c' } }", "`a b` is not a field name"),
        ("call('x')", "source:2:"),
        ("coroutine.wrap(function() call { upstream = 'auth' } end)()", "a coroutine of the script's own"),
        ("coroutine.yield('call')", "the script yielded outside `call`"),
        ("while true do call { upstream = 'auth' } end", "more than 32 calls"),
    ] {
        let plugin = plugin(&format!("function request_headers(req)\n{body}\n call = call end"));
        let fault = fault(&*plugin, &mut visit("/").0);
        assert!(fault.contains(words), "{body}: {fault}");
    }
    let problem = wrong(json!({ "source": "call { upstream = 'auth' }" }));
    assert!(problem.contains("source:1: `call` can wait in request_headers"), "{problem}");
    let plugin = plugin("function log(req, res) call { upstream = 'auth' } end");
    let (mut visit, echo) = visit("/");
    visit.with_exchange(|exchange| plugin.log(exchange, None));
    assert!(echo.0.lock().unwrap().is_empty());
}

#[test]
fn an_abandoned_call_affects_no_other_request() {
    let plugin = plugin(
        "function request_headers(req)
            if req:path() == '/wait' then call { upstream = 'auth' } end
            req:set_header('x-through', req:path())
         end",
    );
    for _ in 0..100 {
        let (mut gone, _) = visit("/wait");
        gone.with_exchange(|exchange| drop(plugin.request_headers(exchange)));
        let (mut next, _) = visit("/wait");
        assert!(matches!(next.request_headers(&*plugin), Verdict::Continue));
        assert_eq!(next.request["x-through"], "/wait");
    }
}

#[test]
fn other_requests_run_while_one_waits() {
    let plugin = plugin(
        "function request_headers(req)
            if req:path() == '/wait' then call { upstream = 'auth' } end
            if req:path() == '/spin' then while true do end end
            req:set_header('x-through', req:path())
         end",
    );
    let (mut patient, _) = visit("/wait");
    patient.with_exchange(|exchange| {
        let flow = plugin.request_headers(exchange);
        // Another request exceeds the limit meanwhile; the VM of the suspended one stays.
        assert!(matches!(visit("/spin").0.request_headers(&*plugin), Verdict::Failed(_)));
        assert!(matches!(visit("/").0.request_headers(&*plugin), Verdict::Continue));
        assert!(matches!(moongate_sdk::testing::resolve_flow(flow), Verdict::Continue));
    });
    assert_eq!(patient.request["x-through"], "/wait");
}
