//! Stock Pingora: a `ProxyHttp` with a fixed upstream and Pingora's defaults. One worker, pooled upstream connections,
//! no log. WebSockets and HTTP/2 clients are served by Pingora itself.

use async_trait::async_trait;
use pingora::Result;
use pingora::listeners::tls::TlsSettings;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use std::error::Error;
use std::net::SocketAddr;

/// The arguments: the addresses of both listeners and of the upstream, and the files of the certificate.
const USAGE: &str = "usage: stock-pingora PLAIN_ADDRESS TLS_ADDRESS UPSTREAM_ADDRESS CERTIFICATE KEY";

struct FixedUpstream {
    address: SocketAddr,
}

#[async_trait]
impl ProxyHttp for FixedUpstream {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.address, false, String::new())))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--version"] => println!("pingora {}", env!("CARGO_PKG_VERSION")),
        [plain, tls, upstream, certificate, key] => {
            let mut server =
                Server::new_with_opt_and_conf(None, ServerConf { threads: 1, ..ServerConf::default() });
            server.bootstrap();
            let proxy = FixedUpstream { address: upstream.parse()? };
            let mut service = http_proxy_service(&server.configuration, proxy);
            let mut settings = TlsSettings::intermediate(certificate, key)?;
            settings.enable_h2();
            service.add_tcp(plain);
            service.add_tls_with_settings(tls, None, settings);
            server.add_service(service);
            server.run_forever();
        }
        _ => return Err(USAGE.into()),
    }
    Ok(())
}
