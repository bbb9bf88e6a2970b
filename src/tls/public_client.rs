//! TLS to servers of URLs: the roots of the platform, HTTP/1.1, no client certificate. One configuration for the
//! process, so that all connections share its session cache.

use super::platform_roots;
use crate::runtime::blocking_pool::SYSTEM_FILES;
use moongate_sdk::log_throttle;
use rustls::ClientConfig;
use rustls::crypto::ring;
use std::sync::Arc;
use tokio::sync::OnceCell;

static CONFIG: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();

/// The configuration. The first call reads the platform's files.
///
/// # Errors
/// Why there is none, which is logged. Roots that were not found at the first call are not found later.
pub(crate) async fn public_client_config() -> Result<Arc<ClientConfig>, String> {
    let config = CONFIG.get_or_try_init(|| async {
        let read = SYSTEM_FILES.run(platform_roots::store).await;
        let roots = read.map_err(|error| error.to_string())?.map_err(str::to_owned)?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    });
    config.await.cloned().inspect_err(|error: &String| {
        const MESSAGE: &str = "system root certificates not read";
        if log_throttle::admit(log::Level::Error, MESSAGE, &[]) {
            log::error!(error = error.as_str(); "{MESSAGE}");
        }
    })
}
