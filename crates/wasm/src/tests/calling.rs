//! HTTP calls of a filter, pauses for them, and ticks.

use super::plugin_with;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use moongate_sdk::testing::TestExchange;
use moongate_sdk::{Call, CallError, CallFuture, CallResponse, CallTarget, Plugin, Services, Verdict};
use serde_json::{Value, json};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Calls `auth` for every request: 200 resumes it, anything else is 403, a failed call 503. A tick calls too.
const AUTH: &str = r#"
    (data (i32.const 100) "auth") (data (i32.const 110) ":status")
    (data (i32.const 1000) "\04\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\06\00\00\00\0a\00\00\00\04\00\00\00\03\00\00\00\01\00\00\00:method\00GET\00:path\00/check\00:authority\00auth\00x-a\001\00")
    (global $stream (mut i32) (i32.const 0))
    (global $ticks (mut i32) (i32.const 0))
    (func $ask (result i32)
      (call $call (i32.const 100) (i32.const 4) (i32.const 1000) (i32.const 83) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const 1000) (i32.const 24)))
    (func $deny (param i32)
      (drop (call $respond (local.get 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const -1))))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
      (drop (call $tick_every (i32.const 10))) (i32.const 1))
    (func (export "proxy_on_tick") (param i32) (drop (call $ask)))
    (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
      (global.set $stream (local.get $id))
      (if (call $ask) (then (call $deny (i32.const 500))))
      (i32.const 1))
    (func (export "proxy_on_http_call_response") (param i32 i32) (param $fields i32) (param i32 i32)
      (if (call $effective (global.get $stream)) (then (return)))
      (if (i32.eqz (local.get $fields)) (then (call $deny (i32.const 503)) (return)))
      (drop (call $get (i32.const 6) (i32.const 110) (i32.const 7) (i32.const 16) (i32.const 20)))
      (if (i32.eq (i32.load8_u (i32.load (i32.const 16))) (i32.const 50))
        (then (drop (call $continue (i32.const 0))))
        (else (call $deny (i32.const 403)))))"#;

/// Records calls, and completes them as configured.
struct RecordingServices {
    response: Result<u16, CallError>,
    asked: Mutex<Vec<Call>>,
}

impl Services for RecordingServices {
    fn call(&self, call: Call) -> CallFuture {
        self.asked.lock().unwrap().push(call);
        let response = self.response.map(|status| CallResponse {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        });
        Box::pin(async move {
            tokio::task::yield_now().await;
            response
        })
    }
    fn spawn(&self, work: Pin<Box<dyn Future<Output = ()> + Send>>) {
        drop(tokio::spawn(work));
    }
    fn has_upstream(&self, name: &str) -> bool {
        name == "auth"
    }
}

fn services_with(response: Result<u16, CallError>) -> Arc<RecordingServices> {
    Arc::new(RecordingServices { response, asked: Mutex::default() })
}

fn auth(more: Value) -> Box<dyn Plugin> {
    plugin_with(AUTH, more)
}

fn allowed() -> Value {
    json!({ "allow": { "upstreams": ["auth"] } })
}

fn ask(plugin: &dyn Plugin, services: &Arc<RecordingServices>) -> Verdict {
    let mut visit = TestExchange::new("/");
    visit.services = services.clone();
    visit.request_headers(plugin)
}

fn denied(verdict: &Verdict) -> u16 {
    match verdict {
        Verdict::Respond(reply) => reply.status.as_u16(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_waits_for_the_response_to_a_call() {
    let plugin = auth(allowed());
    let services = services_with(Ok(200));
    assert!(matches!(ask(&*plugin, &services), Verdict::Continue));
    let asked = services.asked.lock().unwrap();
    let call = &asked[0];
    assert_eq!(call.to, CallTarget::Upstream("auth".to_owned()));
    assert_eq!(
        (call.method.as_str(), call.target.as_str(), call.timeout),
        ("GET", "/check", Duration::from_secs(1))
    );
    assert_eq!(
        (&call.headers["host"], &call.headers["x-a"]),
        (&"auth".parse().unwrap(), &"1".parse().unwrap())
    );
    assert_eq!(denied(&ask(&*plugin, &services_with(Ok(401)))), 403);
    assert_eq!(denied(&ask(&*plugin, &services_with(Err(CallError::TimedOut)))), 503);
}

#[test]
fn only_allowed_and_existing_upstreams_can_be_called() {
    let services = services_with(Ok(200));
    assert_eq!(denied(&ask(&*auth(json!({})), &services)), 500);
    assert!(services.asked.lock().unwrap().is_empty());
    let mut visit = TestExchange::new("/");
    assert_eq!(denied(&visit.request_headers(&*auth(allowed()))), 500, "the gateway knows no such upstream");
}

#[test]
fn a_request_cancelled_during_a_call_leaves_the_instance_intact() {
    let plugin = auth(allowed());
    for _ in 0..2000 {
        let mut visit = TestExchange::new("/");
        visit.services = services_with(Ok(200));
        visit.with_exchange(|exchange| drop(plugin.request_headers(exchange)));
    }
    assert!(matches!(ask(&*plugin, &services_with(Ok(200))), Verdict::Continue));
}

#[tokio::test]
async fn ticks_run_beside_requests_and_may_call() {
    let plugin = auth(allowed());
    let services = services_with(Ok(200));
    let dynamic: Arc<dyn Services> = services.clone();
    let work = plugin.background(&dynamic).unwrap();
    let enough = async {
        while services.asked.lock().unwrap().len() < 3 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        () = work => panic!("the background work never ends"),
        done = tokio::time::timeout(Duration::from_secs(20), enough) => done.unwrap(),
    }
}
