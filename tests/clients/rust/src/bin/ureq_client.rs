//! ureq.

use moongate_clients::{Failure, Request, Response, ca_pem, http_case, run};
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, SendBody};

fn agent() -> Result<Agent, Failure> {
    let ca = Certificate::from_pem(&ca_pem())?;
    let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(vec![ca]))).build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(Duration::from_secs(10)))
        .http_status_as_error(false)
        .proxy(None);
    Ok(config.build().into())
}

fn send(agent: &Agent, url: &str, request: Request) -> Result<Response, Failure> {
    let mut builder =
        ureq::http::Request::builder().method(request.method).uri(format!("{url}{}", request.path));
    if request.expect {
        builder = builder.header("Expect", "100-continue");
    }
    let mut response = match request.body {
        None => agent.run(builder.body(())?)?,
        Some(body) if request.chunked => {
            agent.run(builder.body(SendBody::from_owned_reader(Cursor::new(body)))?)?
        }
        Some(body) => agent.run(builder.body(body)?)?,
    };
    let status = format!("{:?} {}", response.version(), response.status());
    let body = response.body_mut().read_to_vec()?;
    let fields = response.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    Ok(Response::new(status, fields, body))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    run(|_, case, url| async move {
        let agent = agent()?;
        http_case(&case, |request| {
            let response = send(&agent, &url, request);
            Box::pin(async move { response })
        })
        .await
    })
    .await;
}
