//! tonic. Messages are bytes, so that no code is generated.

use bytes::{Buf, BufMut};
use moongate_clients::{Failure, Outcome, ca_pem, digest, pattern, run};
use std::time::Duration;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{KeyAndValueRef, MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

#[derive(Clone, Copy, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}

fn show(kind: &str, metadata: &MetadataMap) {
    let mut lines: Vec<_> = metadata
        .iter()
        .map(|field| match field {
            KeyAndValueRef::Ascii(name, value) => format!("{kind} {name} {value:?}"),
            KeyAndValueRef::Binary(name, value) => format!("{kind} {name} {value:?}"),
        })
        .filter(|line| !line.contains(" date "))
        .collect();
    lines.sort();
    lines.iter().for_each(|line| println!("{line}"));
}

fn failed(status: &Status) {
    // Which side ends a call after its deadline is chance; tonic's own end of it is a cancellation.
    if matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled) {
        return println!("late");
    }
    println!("{:?} {}", status.code(), status.message());
    show("trailing", status.metadata());
}

async fn open(url: &str) -> Result<Grpc<Channel>, Failure> {
    let mut endpoint = Endpoint::from_shared(url.to_owned())?;
    if url.starts_with("https") {
        endpoint =
            endpoint.tls_config(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem())))?;
    }
    let mut client = Grpc::new(endpoint.connect().await?).max_decoding_message_size(usize::MAX);
    client.ready().await?;
    Ok(client)
}

fn path(method: &str) -> PathAndQuery {
    format!("/test.Calls/{method}").parse().unwrap()
}

async fn unary(mut client: Grpc<Channel>, method: &str, request: Request<Vec<u8>>) {
    match client.unary(request, path(method), Bytes).await {
        Ok(response) => {
            println!("{}", digest(response.get_ref()));
            show("metadata", response.metadata());
        }
        Err(status) => failed(&status),
    }
}

async fn stream(mut client: Grpc<Channel>, method: &str, messages: &[&str]) {
    let messages: Vec<_> = messages.iter().map(|message| message.as_bytes().to_vec()).collect();
    let request = Request::new(futures_util::stream::iter(messages));
    let mut response = match client.streaming(request, path(method), Bytes).await {
        Ok(response) => response.into_inner(),
        Err(status) => return failed(&status),
    };
    loop {
        match response.message().await {
            Ok(Some(message)) => println!("{}", String::from_utf8_lossy(&message)),
            Ok(None) => break,
            Err(status) => return failed(&status),
        }
    }
    if let Ok(Some(trailers)) = response.trailers().await {
        show("trailing", &trailers);
    }
}

async fn case(name: &str, url: &str) -> Outcome {
    let client = open(url).await?;
    match name {
        "unary" => unary(client, "Echo", Request::new(b"hello".to_vec())).await,
        "metadata" => {
            let mut request = Request::new(Vec::new());
            request.metadata_mut().insert("x-text", "value".parse()?);
            request.metadata_mut().insert_bin("x-bytes-bin", MetadataValue::from_bytes(&[0, 255]));
            unary(client, "Metadata", request).await;
        }
        "large" => unary(client, "Echo", Request::new(pattern(1 << 20))).await,
        "server_stream" => stream(client, "Count", &["5"]).await,
        "client_stream" => stream(client, "Sum", &["1", "22", "333"]).await,
        "bidi" => {
            stream(client, "Chat", &["message 0", "message 1", "message 2", "message 3", "message 4"]).await
        }
        "error" => unary(client, "Fail", Request::new(Vec::new())).await,
        "unimplemented" => unary(client, "Missing", Request::new(Vec::new())).await,
        _ => {
            let mut request = Request::new(Vec::new());
            request.set_timeout(Duration::from_millis(300));
            unary(client, "Wait", request).await;
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    run(|_, name, url| async move { case(&name, &url).await.map(|()| true) }).await;
}
