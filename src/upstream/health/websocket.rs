//! WebSocket health check: healthy if a WebSocket handshake succeeds (RFC 6455 §4.1). It ends with a Close
//! frame, so that the backend does not log an abnormal closure.

use super::probe_settings::probe_settings;
use super::{Failure, Probe, ProbeSchedule, Proof, Target, probe_target};
use crate::net::http1::response_head;
use crate::upstream::upstream_stream::UpstreamStream;
use crate::websocket::Offer;
use crate::websocket::frame::{ControlFrame, Mask};
use crate::websocket::handshake::Handshake;
use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use moongate_config::{Kind, Placed, Problem, Problems, Settings};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(super) const KIND: Kind<dyn Probe> = Kind {
    name: "websocket",
    about: "Healthy if a WebSocket handshake succeeds",
    schema: |generator| generator.subschema_for::<WebSocketSettings>(),
    build,
};

/// The time limit for the backend's Close frame; the verdict is already known.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(200);

probe_settings! {
    /// The settings of the `websocket` probe.
    WebSocketSettings {
        /// Requests this path, with its query. Default /.
        path: Option<Placed<String>>,
        /// Sends this Host, or `:authority`. Default the endpoint's address.
        host: Option<Placed<String>>,
        /// Offers these subprotocols. Default none.
        protocols: Vec<Placed<String>>,
    }
}

fn build(settings: &Settings) -> Result<Box<dyn Probe>, Problems> {
    let read: WebSocketSettings = settings.read()?;
    let mut problems = Problems::default();
    for protocol in &read.protocols {
        // A subprotocol has the grammar of a field name.
        if http::HeaderName::try_from(protocol.value.as_str()).is_err() {
            problems
                .push(Problem::new(format!("invalid subprotocol `{}`", protocol.value)).at(&protocol.place));
        }
    }
    let probe = WebSocket {
        schedule: read.schedule(&mut problems),
        path: probe_target::check_path(read.path.as_ref(), &mut problems),
        host: probe_target::check_host(read.host.as_ref(), &mut problems),
        offered: offered(&read.protocols),
    };
    if problems.refuse() { Err(problems) } else { Ok(Box::new(probe)) }
}

/// The fields that offer subprotocols to the backend.
fn offered(protocols: &[Placed<String>]) -> HeaderMap {
    let list = protocols.iter().map(|protocol| protocol.as_str()).collect::<Vec<_>>().join(", ");
    let value = HeaderValue::try_from(list).ok().filter(|value| !value.is_empty());
    value.into_iter().map(|value| (header::SEC_WEBSOCKET_PROTOCOL, value)).collect()
}

struct WebSocket {
    schedule: ProbeSchedule,
    path: String,
    host: Option<String>,
    offered: HeaderMap,
}

#[async_trait]
impl Probe for WebSocket {
    fn schedule(&self) -> ProbeSchedule {
        self.schedule
    }

    fn proof(&self) -> Proof {
        Proof::Handshake
    }

    async fn probe(&self, target: &Target<'_>) -> Result<(), Failure> {
        let mut wire = target.connect(false).await?;
        let key = Handshake::with_own_key().key;
        wire.write_all(self.request(target, &String::from_utf8_lossy(&key)).as_bytes()).await?;
        let head = response_head::read(&mut wire).await?;
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::Status(head.status.as_u16()));
        }
        // RFC 9110 §7.8: an HTTP/1.0 response cannot upgrade.
        if head.version == Version::HTTP_10 {
            return Err(Failure::Handshake("101 in HTTP/1.0"));
        }
        Offer::new(&key, &self.offered).check(&head.fields).map_err(Failure::Handshake)?;
        // The verdict stands: a failed closing handshake does not change it.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, close_websocket(&mut wire)).await;
        Ok(())
    }
}

impl WebSocket {
    fn request(&self, target: &Target<'_>, key: &str) -> String {
        let host = self.host.clone().unwrap_or_else(|| target.authority());
        let mut request = format!(
            "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: moongate\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n",
            self.path
        );
        if let Some(protocols) =
            self.offered.get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|protocols| protocols.to_str().ok())
        {
            request.push_str("Sec-WebSocket-Protocol: ");
            request.push_str(protocols);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        request
    }
}

/// Sends Close 1000 and reads up to 4 KiB, so that closing the socket does not reset the connection.
async fn close_websocket(wire: &mut UpstreamStream) -> std::io::Result<()> {
    wire.write_all(ControlFrame::close(1000, "", Mask::fresh()).as_bytes()).await?;
    let mut rest = [0; 512];
    for _ in 0..8 {
        if wire.read(&mut rest).await? == 0 {
            break;
        }
    }
    Ok(())
}
