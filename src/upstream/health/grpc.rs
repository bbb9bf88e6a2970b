//! gRPC health check: healthy if `grpc.health.v1.Health/Check` reports SERVING (gRPC health checking
//! protocol). The two messages are small enough to encode and decode their protobuf by hand.

use super::probe_settings::probe_settings;
use super::{Failure, Probe, ProbeSchedule, Proof, Target, h2, probe_target};
use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use moongate_config::{Kind, Placed, Problem, Problems, Settings};

pub(super) const KIND: Kind<dyn Probe> = Kind {
    name: "grpc",
    about: "Healthy if the gRPC health checking protocol reports SERVING",
    schema: |generator| generator.subschema_for::<GrpcSettings>(),
    build,
};

probe_settings! {
    /// The settings of the `grpc` probe.
    GrpcSettings {
        /// Queries the health of this gRPC service. Default the server as a whole.
        service: Option<Placed<String>>,
        /// Sends this Host, or `:authority`. Default the endpoint's address.
        host: Option<Placed<String>>,
    }
}

/// Longer names would need a length of two bytes and do not occur.
const LONGEST_SERVICE: usize = 127;
const PATH: &str = "/grpc.health.v1.Health/Check";
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u8 = 1;

fn build(settings: &Settings) -> Result<Box<dyn Probe>, Problems> {
    let read: GrpcSettings = settings.read()?;
    let mut problems = Problems::default();
    let service = read.service.as_ref().map_or("", |service| service.as_str());
    if let Some(written) = read.service.as_ref().filter(|name| name.len() > LONGEST_SERVICE) {
        let problem = Problem::new("the service name is longer than 127 bytes");
        problems.push(problem.at(&written.place));
    }
    let probe = Grpc {
        schedule: read.schedule(&mut problems),
        host: probe_target::check_host(read.host.as_ref(), &mut problems),
        check_request: check_request(service),
    };
    if problems.refuse() { Err(problems) } else { Ok(Box::new(probe)) }
}

/// Encodes a `HealthCheckRequest` as a gRPC message.
fn check_request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        // Field 1, a string.
        message.put_slice(&[0x0a, service.len() as u8]);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put_slice(&message);
    framed.freeze()
}

struct Grpc {
    schedule: ProbeSchedule,
    host: Option<String>,
    check_request: Bytes,
}

#[async_trait]
impl Probe for Grpc {
    fn schedule(&self) -> ProbeSchedule {
        self.schedule
    }

    fn proof(&self) -> Proof {
        Proof::Exchange
    }

    async fn probe(&self, target: &Target<'_>) -> Result<(), Failure> {
        let wire = target.connect(true).await?;
        if !target.speaks_h2(&wire) {
            return Err(Failure::NotServing("the backend did not select HTTP/2".to_owned()));
        }
        let host = self.host.clone().unwrap_or_else(|| target.authority());
        let asked =
            h2::ProbeRequest { method: &Method::POST, scheme: target.scheme(), host: &host, path: PATH };
        let mut head = asked.head()?;
        let fields = head.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        fields.insert(header::TE, HeaderValue::from_static("trailers"));
        judge(&h2::ask(wire, head, Some(self.check_request.clone())).await?)
    }
}

fn judge(response: &h2::ProbeResponse) -> Result<(), Failure> {
    if response.status != StatusCode::OK {
        return Err(Failure::Status(response.status.as_u16()));
    }
    // In a response without a message, the trailers are in the header (Trailers-Only).
    let grpc_status = |fields: &HeaderMap| fields.get("grpc-status").map(|status| status.as_bytes().to_vec());
    match grpc_status(&response.trailers).or_else(|| grpc_status(&response.headers)) {
        Some(status) if status == b"0" => {}
        Some(status) => {
            return Err(Failure::NotServing(format!("grpc-status {}", String::from_utf8_lossy(&status))));
        }
        None => return Err(Failure::Malformed("the response has no grpc-status")),
    }
    // Uncompressed, two bytes long: field 1, a varint.
    match response.body[..] {
        [0, 0, 0, 0, 2, 0x08, SERVING] => Ok(()),
        [0, 0, 0, 0, 2, 0x08, other] => Err(Failure::NotServing(format!("serving status {other}"))),
        // Value 0 (UNKNOWN) is omitted in protobuf.
        [0, 0, 0, 0, 0] => Err(Failure::NotServing("serving status 0".to_owned())),
        _ => Err(Failure::Malformed("the response is not a HealthCheckResponse")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(body: &'static [u8], status: &'static str) -> h2::ProbeResponse {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(status));
        h2::ProbeResponse {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from_static(body),
            trailers,
        }
    }

    #[test]
    fn a_question_is_framed_as_grpc_wants_it() {
        assert_eq!(check_request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(check_request("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
    }

    #[test]
    fn only_serving_is_healthy() {
        assert!(judge(&response(&[0, 0, 0, 0, 2, 8, 1], "0")).is_ok());
        for (body, status) in [
            (&[0, 0, 0, 0, 2, 8, 2][..], "0"),
            (&[0, 0, 0, 0, 0], "0"),
            (&[0, 0, 0, 0, 2, 8, 1], "12"),
            (&[], "0"),
        ] {
            assert!(judge(&response(body, status)).is_err(), "{body:?} {status}");
        }
    }
}
