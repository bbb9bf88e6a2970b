//! reqwest: HTTP/1.1, and HTTP/2 with and without TLS.

use moongate_clients::{Failure, Request, Response, client_tls, http_case, run};
use reqwest::{Body, Client};
use std::time::Duration;

fn client(kind: &str) -> Result<Client, Failure> {
    let builder = Client::builder().timeout(Duration::from_secs(10)).no_proxy();
    Ok(match kind {
        "http1" => builder.tls_backend_preconfigured(client_tls(&["http/1.1"])).http1_only(),
        "http2" => builder.tls_backend_preconfigured(client_tls(&["h2"])),
        _ => builder.http2_prior_knowledge(),
    }
    .build()?)
}

async fn send(client: &Client, url: &str, request: Request) -> Result<Response, Failure> {
    let mut builder = client.request(request.method.parse()?, format!("{url}{}", request.path));
    if request.expect {
        builder = builder.header("Expect", "100-continue");
    }
    if let Some(body) = request.body {
        builder = if request.chunked {
            let pieces: Vec<Result<_, std::io::Error>> =
                body.chunks(16384).map(|piece| Ok(piece.to_vec())).collect();
            builder.body(Body::wrap_stream(futures_util::stream::iter(pieces)))
        } else {
            builder.body(body)
        };
    }
    let response = builder.send().await?;
    let status = format!("{:?} {}", response.version(), response.status());
    let fields = response.headers().clone();
    let body = response.bytes().await?.to_vec();
    Ok(Response::new(status, fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes())), body))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    run(|kind, case, url| async move {
        let client = client(&kind)?;
        http_case(&case, |request| Box::pin(send(&client, &url, request))).await
    })
    .await;
}
