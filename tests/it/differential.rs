//! Our exchange with HTTP/1.1 upstreams compared with Pingora's loop: a corpus of requests and responses goes
//! through two gateways with the same configuration. Backend, client, access log and metrics must see the
//! same.

mod backend;
mod corpus;
mod transcript;

use crate::support::access_log::AccessLog;
use crate::support::h2::{self, Client as Http2Client};
use crate::support::metrics::Metrics;
use crate::support::{Gateway, Origin, Wire, eventually};
use backend::{Backend, PROBE_PATH};
use corpus::{Case, Client, ClientStep};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use transcript::{Kind, show};

/// Makes a debug build use Pingora's loop.
const PINGORA_LOOP: &str = "MOONGATE_TEST_PINGORA_LOOP";

/// Intended differences: parts of a case's name, between stars, and the reason.
const INTENDED: [(&str, &str); 6] = [
    ("invalid chunk", "Pingora sends the header before it reads the first chunk; ours becomes a 502"),
    ("empty chunk size", "Pingora takes it for the last chunk"),
    ("too many interim responses", "Pingora has no limit"),
    ("extensions and trailers*HTTP/2", "Pingora drops trailers"),
    // A plugin that may change the body, as `shout`, leaves out the trailers of requests in both.
    ("announced trailers, plain", "Pingora drops trailers and `Trailer`"),
    ("fields of one connection", "Pingora drops `TE: trailers`"),
];

/// Responses that succeed while the upload goes on: ours reads on until the response is complete, Pingora's loop does not,
/// so that the received bytes are a matter of time.
const OVER_AN_UPLOAD: &str = "over an upload";

/// The metrics that are compared.
const METRICS: [&str; 2] = ["moongate_http_requests_total", "moongate_upstream_failures_total"];

/// One gateway with its backend.
struct Side {
    gateway: Gateway,
    backend: Backend,
    /// An address that refuses connections.
    refusing: Origin,
    log: AccessLog,
    /// Scrapes share a connection; a thousand closed ones would fill the kernel's tables.
    admin: Mutex<Wire>,
}

/// What was seen of one case.
struct Observed {
    lines: Vec<String>,
    /// The requests that are logged.
    requests: usize,
}

impl Side {
    fn start(variables: &[(&str, &str)]) -> Self {
        let (backend, refusing, log) = (Backend::start(), Origin::named("refusing"), AccessLog::new());
        refusing.die();
        let yaml = configuration(&backend, &refusing, &log);
        let gateway = Gateway::start_own_whole_with(variables, &yaml);
        let admin = Mutex::new(Wire::connect(gateway.admin()));
        Self { gateway, backend, refusing, log, admin }
    }

    /// The series of the compared metrics.
    fn metrics(&self) -> BTreeMap<String, f64> {
        let mut admin = self.admin.lock().unwrap();
        admin.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let metrics = Metrics::new(admin.response().text());
        let mut sums = BTreeMap::new();
        for (series, value) in METRICS.iter().flat_map(|name| metrics.values(name)) {
            // Two addresses of the backend become one.
            *sums.entry(self.normalized(&series)).or_default() += value;
        }
        sums
    }

    /// A line without ports, request IDs and the name of the process.
    fn normalized(&self, text: &str) -> String {
        let text = &without_ids(text);
        [(self.backend.address().port(), "BACKEND"), (self.refusing.address().port(), "REFUSING")]
            .iter()
            .fold(text.to_owned(), |text, (port, name)| {
                text.replace(&format!(":{port}"), &format!(":{name}"))
            })
            .replace("127.0.0.2:BACKEND", "127.0.0.1:BACKEND")
    }

    fn run(&self, case: &Arc<Case>) -> Observed {
        self.backend.begin(case);
        let before = self.metrics();
        let mut lines = Vec::new();
        let client = match &case.client {
            Client::Http1(steps) => self.run_http1(steps, &mut lines),
            Client::Http2 { method, fields, steps } => {
                self.run_http2(case, (method, fields), steps, &mut lines)
            }
        };
        if !case.greeting.is_empty() {
            self.backend.await_request();
        }
        // The gateway has pooled or closed the backend's connection.
        self.await_requests(case, &before, case.requests);
        let mut requests = case.requests + usize::from(self.probe(case, client, &mut lines));
        if lines.last().is_none_or(|line| !line.ends_with("answered")) {
            requests += usize::from(self.probe(case, Connection::Http1(self.gateway.wire()), &mut lines));
        }
        self.await_requests(case, &before, requests);
        lines.extend(self.backend.finish());
        let after = self.metrics();
        let changed = after.iter().filter(|(series, value)| before.get(*series) != Some(value));
        lines.extend(changed.map(|(series, value)| {
            format!("{series} +{}", value - before.get(series).copied().unwrap_or_default())
        }));
        let lines = lines.iter().map(|line| self.normalized(line)).collect();
        Observed { lines, requests }
    }

    fn await_requests(&self, case: &Case, before: &BTreeMap<String, f64>, count: usize) {
        let total = |metrics: &BTreeMap<String, f64>| -> f64 {
            metrics.iter().filter(|(series, _)| series.starts_with(METRICS[0])).map(|(_, value)| value).sum()
        };
        eventually(&format!("the end of the requests of {}", case.name), || {
            (total(&self.metrics()) - total(before) >= count as f64).then_some(())
        });
    }

    fn run_http1(&self, steps: &[ClientStep], lines: &mut Vec<String>) -> Connection {
        let mut wire = self.gateway.wire();
        for step in steps {
            let done = match step {
                ClientStep::Send(bytes) => wire.try_send(bytes),
                ClientStep::Split(bytes, at) => wire.send_split(bytes, *at),
                ClientStep::Bytewise(bytes) => bytes.iter().try_for_each(|byte| wire.send_split(&[*byte], 1)),
                ClientStep::Response(method) => {
                    let kind = Kind::ResponseTo(method);
                    let read = transcript::receive(&mut wire, kind, |_| false);
                    lines.extend(transcript::take(&mut wire, kind).lines());
                    read
                }
                ClientStep::HeadOf(method) => {
                    transcript::receive(&mut wire, Kind::ResponseTo(method), |message| {
                        !message.body.is_empty()
                    })
                }
                ClientStep::AwaitBackend => {
                    self.backend.await_mark();
                    Ok(())
                }
                ClientStep::Permit => {
                    self.backend.permit();
                    Ok(())
                }
                ClientStep::HalfClose => {
                    wire.half_close();
                    Ok(())
                }
                ClientStep::Close => return Connection::Closed,
                ClientStep::Reset => {
                    wire.reset_on_drop();
                    return Connection::Closed;
                }
                ClientStep::ToEnd => {
                    let read = transcript::receive_all(&mut wire);
                    lines.push(format!("then {}, and the end", show(wire.buffered())));
                    wire.exactly(wire.buffered().len()).expect("these bytes are buffered");
                    read
                }
                ClientStep::End => Ok(()),
            };
            // What the gateway sent before it closed the connection is read by the next steps.
            if let Err(error) = done.or_else(ignore_closed) {
                lines.push(format!("{:?}", error.kind()));
                return Connection::Closed;
            }
        }
        Connection::Http1(wire)
    }

    fn run_http2(
        &self,
        case: &Case,
        (method, fields): (&str, &[(&str, &str)]),
        steps: &[ClientStep],
        lines: &mut Vec<String>,
    ) -> Connection {
        let client = Http2Client::connect(self.gateway.web());
        let path = format!("/{}/{:04}", case.route, case.number);
        let request = h2::request(method, &path);
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let ends = matches!(steps.first(), Some(ClientStep::End));
        let (response, mut body) = client.begin(request.body(()).unwrap(), ends);
        let mut response = Some(response);
        let rest = &steps[usize::from(ends)..];
        for (at, step) in rest.iter().enumerate() {
            let written = match step {
                ClientStep::Send(bytes) => {
                    let is_last = matches!(rest.get(at + 1), Some(ClientStep::End));
                    client.write(&mut body, bytes, is_last)
                }
                // The piece before it has the flag.
                ClientStep::End => Ok(()),
                ClientStep::AwaitBackend => {
                    self.backend.await_mark();
                    Ok(())
                }
                ClientStep::Reset => {
                    body.send_reset(::h2::Reason::CANCEL);
                    Ok(())
                }
                ClientStep::Response(_) => {
                    lines.extend(
                        response
                            .take()
                            .map(|response| describe(&client.receive(response)))
                            .unwrap_or_default(),
                    );
                    Ok(())
                }
                _ => panic!("{}: a step of HTTP/1", case.name),
            };
            // The response shows why the gateway reset the stream.
            drop(written);
        }
        Connection::Http2(client)
    }

    /// Sends another request. Returns whether it has a response.
    fn probe(&self, case: &Case, connection: Connection, lines: &mut Vec<String>) -> bool {
        let path = format!("/{}/{:04}{PROBE_PATH}", case.route, case.number);
        let status = match connection {
            Connection::Closed => return false,
            Connection::Http1(mut wire) => {
                // It may be closed.
                let _ = wire.try_send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
                let kind = Kind::ResponseTo("GET");
                let read = transcript::receive(&mut wire, kind, |_| false);
                let message = transcript::take(&mut wire, kind);
                // Nothing of it stays in the kernel's tables.
                wire.reset_on_drop();
                read.err().map_or_else(|| message.second_word().to_owned(), |error| error.kind().to_string())
            }
            Connection::Http2(client) => client
                .receive(client.begin(h2::get(&path), true).0)
                .status
                .map_or_else(String::new, |status| status.as_str().to_owned()),
        };
        let is_answered = !status.is_empty();
        lines.push(format!(
            "another request: {}",
            if is_answered { "answered" } else { "the connection is closed" }
        ));
        is_answered
    }
}

/// The client's connection after its script.
enum Connection {
    Http1(Wire),
    Http2(Http2Client),
    Closed,
}

fn ignore_closed(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Ok(()),
        _ => Err(error),
    }
}

fn describe(received: &h2::Received) -> Vec<String> {
    let mut lines = vec![format!("| {:?}", received.status)];
    let fields = received.headers.iter().filter(|(name, _)| *name != "date");
    lines.extend(fields.map(|(name, value)| format!("| {name}: {value:?}")));
    // A reset may overtake data in the client's library.
    let body = if received.error.is_some() { String::new() } else { show(&received.body) };
    lines.push(format!("| body {body}, {:?}, {:?}", received.trailers, received.error));
    lines
}

fn configuration(backend: &Backend, refusing: &Origin, log: &AccessLog) -> String {
    let port = backend.address().port();
    let shout = "{ kind: replace, request: { from: quiet, to: LOUD }, response: { from: quiet, to: LOUD } }";
    let hold = "{ kind: replace, hold: true, request: { from: quiet, to: LOUD }, response: { from: hello, to: HELLO } }";
    let upstream = |name: &str, endpoints: &str, more: &str| {
        format!("  {name}: {{ endpoints: [{endpoints}], passive_health: {{ failures: 0 }}{more} }}\n")
    };
    let one = format!("'127.0.0.1:{port}'");
    // The first choice of every request is the address that refuses.
    let refused = format!("'{}', {{ address: {one}, backup: true }}", refusing.address());
    let upstreams = [
        upstream("one", &one, ""),
        upstream("unpooled", &one, ", keepalive_timeout: 0s"),
        upstream("twice", &format!("{one}, '127.0.0.2:{port}'"), ""),
        upstream("refused", &refused, ""),
        upstream("down", &format!("'{}'", refusing.address()), ""),
    ]
    .concat();
    let routes: String = [
        ("plain", "one", "", ""),
        ("shout", "one", shout, ""),
        ("hold", "one", hold, ""),
        ("finish", "one", "", ", on_client_close: finish"),
        ("slow", "one", "", ", timeout: 300ms, stream_idle_timeout: 300ms"),
        ("unpooled", "unpooled", "", ""),
        ("twice", "twice", "", ""),
        ("twice-shout", "twice", shout, ""),
        ("refused", "refused", "", ""),
        ("refused-shout", "refused", shout, ""),
        ("down", "down", "", ""),
        ("down-shout", "down", shout, ""),
        ("status-204", "one", "{ kind: replace, status: 204, response: { from: quiet, to: LOUD } }", ""),
        ("status-200", "one", "{ kind: replace, status: 200, response: { from: quiet, to: LOUD } }", ""),
        ("method", "one", "{ kind: replace, method: PUT, target: '/other?a=b' }", ""),
        ("whole", "one", "{ kind: replace, whole: 1KiB, request: { from: quiet, to: LOUD } }", ""),
    ]
    .iter()
    .map(|(name, upstream, plugins, more)| {
        format!("  - {{ name: {name}, path: /{name}, upstream: {upstream}, plugins: [{plugins}]{more} }}\n")
    })
    .collect();
    format!(
        "admin: {{ address: 127.0.0.1:0 }}\n{}server: {{ threads: 1 }}\n\
         listeners: [{{ name: web, address: 127.0.0.1:0, protocols: [http1, h2c] }}]\n\
         upstreams:\n{upstreams}routes:\n{routes}",
        log.yaml()
    )
}

/// Replaces each request ID, of 32 hexadecimal digits, and each name of a gateway.
fn without_ids(text: &str) -> String {
    const DIGITS: usize = 32;
    const GATEWAY: &str = "moongate-";
    let is_id = |at: usize| {
        let id = text.as_bytes().get(at..at + DIGITS);
        id.is_some_and(|id| id.iter().all(u8::is_ascii_hexdigit))
    };
    if let Some((before, after)) = text.split_once(GATEWAY) {
        return format!("{before}ID{}", after.trim_start_matches(|digit: char| digit.is_ascii_hexdigit()));
    }
    let mut result = String::new();
    let mut at = 0;
    while at < text.len() {
        if is_id(at) {
            result += "ID";
            at += DIGITS;
        } else {
            let end = (at + 1..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
            result += &text[at..end];
            at = end;
        }
    }
    result
}

/// The lines of the access log by case, without what differs between two runs.
fn logged(side: &Side, count: usize) -> BTreeMap<String, Vec<String>> {
    let lines = eventually("the lines of the access log", || {
        Some(side.log.lines()).filter(|lines| lines.len() >= count)
    });
    let mut by_case = BTreeMap::<_, Vec<_>>::new();
    for mut line in lines {
        let path = line["path"].as_str().unwrap_or_default().to_owned();
        for key in ["time", "duration_ms", "request_id"] {
            line.as_object_mut().map(|line| line.remove(key));
        }
        let case = path.split(['/', '?']).nth(2).unwrap_or_default().to_owned();
        by_case.entry(case).or_default().push(side.normalized(&line.to_string()));
    }
    by_case
}

/// The lines that only one of the two has, in their order.
fn difference(ours: &[String], theirs: &[String]) -> String {
    let only = |sign: char, from: &[String], other: &[String]| -> String {
        from.iter().filter(|line| !other.contains(line)).map(|line| format!("  {sign} {line}\n")).collect()
    };
    let found = only('+', ours, theirs) + &only('-', theirs, ours);
    if found.is_empty() { format!("  another order: {ours:#?}, {theirs:#?}\n") } else { found }
}

/// Runs all cases through both, with the lines of the access log.
fn observe(sides: [&Side; 2], cases: &[Arc<Case>]) -> [Vec<Observed>; 2] {
    let mut observed: [Vec<Observed>; 2] = std::thread::scope(|scope| {
        let threads = sides.map(|side| scope.spawn(|| cases.iter().map(|case| side.run(case)).collect()));
        threads.map(|thread| thread.join().unwrap())
    });
    for (side, observed) in sides.into_iter().zip(&mut observed) {
        let mut logged = logged(side, observed.iter().map(|observed| observed.requests).sum());
        for (case, observed) in cases.iter().zip(observed) {
            observed.lines.extend(logged.remove(&format!("{:04}", case.number)).unwrap_or_default());
        }
    }
    observed
}

/// The lines with the fields of each message in the order of their names, in lower case: the exchange keeps the
/// received order and spelling, Pingora's header map does not. Fields of one name keep their order (RFC 9110
/// §5.3).
fn in_order_of_names(observed: Observed) -> Vec<String> {
    let mut lines = observed.lines;
    for line in &mut lines {
        if let Some((name, _)) = line.strip_prefix("| ").and_then(|field| field.split_once(": ")) {
            let end = 2 + name.len();
            line[..end].make_ascii_lowercase();
        }
    }
    let name = |line: &String| Some(line.strip_prefix("| ")?.split_once(": ")?.0.to_ascii_lowercase());
    for fields in lines.chunk_by_mut(|one, next| name(one).is_some() && name(next).is_some()) {
        fields.sort_by_key(name);
    }
    lines
}

/// Whether a line frames a body.
fn is_framing(line: &str) -> bool {
    line.starts_with("| content-length: ") || line == "| transfer-encoding: chunked"
}

/// Removes the framing of requests. Ours gives a body its length that plugins may change, and that has arrived before the
/// request is sent; Pingora's loop sends it in chunks.
fn remove_request_framing(lines: &mut Vec<String>) {
    let mut is_response = false;
    lines.retain(|line| {
        if line.starts_with("| ") && !line.contains(": ") {
            is_response = line.starts_with("| HTTP/");
        }
        is_response || !is_framing(line)
    });
}

fn remove_received_bytes(line: &mut String) {
    let Some(start) = line.find("\"bytes_received\":") else { return };
    if let Some(length) = line[start..].find(',') {
        line.replace_range(start..=start + length, "");
    }
}

#[test]
fn our_exchange_and_pingoras_loop_behave_alike() {
    let (ours, theirs) = (Side::start(&[]), Side::start(&[(PINGORA_LOOP, "1")]));
    let cases: Vec<_> = corpus::all().into_iter().map(Arc::new).collect();
    let [ours, theirs] = observe([&ours, &theirs], &cases);
    let mut report = String::new();
    for ((case, ours), theirs) in cases.iter().zip(ours).zip(theirs) {
        let is_it = |parts: &str| parts.split('*').all(|part| case.name.contains(part));
        let is_intended = INTENDED.iter().any(|(parts, _)| is_it(parts));
        let [mut ours, mut theirs] = [in_order_of_names(ours), in_order_of_names(theirs)];
        if case.name.contains(OVER_AN_UPLOAD) {
            ours.iter_mut().chain(&mut theirs).for_each(remove_received_bytes);
        }
        if ["shout", "hold"].iter().any(|plugin| case.name.contains(plugin)) {
            remove_request_framing(&mut ours);
            remove_request_framing(&mut theirs);
        }
        // The same without plugins over HTTP/2.
        if matches!(&case.client, Client::Http2 { fields, .. } if !fields.iter().any(|(name, _)| *name == "content-length"))
        {
            ours.retain(|line| !is_framing(line));
            theirs.retain(|line| !is_framing(line));
        }
        if is_intended == (ours == theirs) {
            report += &format!("{} {}\n{}", case.number, case.name, difference(&ours, &theirs));
        }
    }
    assert!(report.is_empty(), "+ our exchange, - Pingora's loop; intended ones must differ\n{report}");
}
