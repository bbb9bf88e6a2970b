//! A connection that speaks HTTP/2: its streams are taken in one by one, and each is a request.

use super::worker::House;
use crate::proxy::{self, Arrival, Socket};
use log::debug;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, HttpSession, default_h2_options, handshake};
use tokio::time::timeout;

/// Serves a connection until its client leaves.
pub(super) async fn serve(socket: Socket, arrival: Arrival, house: House) {
    let Ok(digest) = proxy::digest(arrival) else { return };
    let options = default_h2_options();
    let began = timeout(house.limits.time, handshake(Box::new(socket), Some(options))).await;
    let Ok(Ok(mut connection)) = began else { return };
    let mut shutdown = house.shutdown.clone();
    let mut ending = *shutdown.borrow();
    loop {
        let next = HttpSession::from_h2_conn(&mut connection, digest.clone());
        let next = tokio::select! {
            biased;
            _ = shutdown.changed(), if !ending => {
                connection.graceful_shutdown();
                ending = true;
                continue;
            }
            next = next => next,
        };
        match next {
            Ok(Some(H2Accept::Session(session))) => {
                let house = house.clone();
                tokio::spawn(async move {
                    let session = ServerSession::new_http2(session);
                    house.proxy.process_new_http(session, &house.shutdown).await;
                });
            }
            Ok(Some(H2Accept::Rejected)) => {}
            Ok(None) => return,
            Err(error) => {
                debug!(error:%; "an HTTP/2 connection ended");
                return;
            }
        }
    }
}
