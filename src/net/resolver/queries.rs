//! Lookups past the cache, for callers with a clock of their own.

use super::answers::{Family, FamilyAddresses, HostAnswer, Services};
use super::name_server::Client;
use super::{LookupError, Resolver, ResolverKind, bounded, getaddrinfo, runtime};
use crate::telemetry::metrics::{self, LookupResult};
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

/// What the system knows of a name, or the name servers to query.
enum Route {
    Known(Vec<IpAddr>),
    NameServers(Arc<Client>),
}

impl Resolver {
    /// The addresses of a name, from name servers or the system, without the cache. `kind`: `None` means the configured
    /// one.
    pub async fn query_host(self: &Arc<Self>, host: &str, kind: Option<ResolverKind>) -> HostAnswer {
        let (kind, name, resolver) = (self.kind(kind), host.to_owned(), Arc::clone(self));
        let work = async move {
            let answer = match kind {
                ResolverKind::System => match getaddrinfo(&name).await {
                    Ok(records) => HostAnswer::without_ttl(&records.addresses),
                    Err(LookupError::NotFound) => HostAnswer::without_ttl(&[]),
                    Err(error) => HostAnswer::failed(error),
                },
                ResolverKind::Hickory => match resolver.route(&name).await {
                    Ok(Route::Known(addresses)) => HostAnswer::without_ttl(&addresses),
                    Ok(Route::NameServers(client)) => client.host(&name).await,
                    Err(error) => HostAnswer::failed(error),
                },
            };
            Ok(answer)
        };
        let answer = self.run(host, work).await.unwrap_or_else(HostAnswer::failed);
        count(match (&answer.v4, &answer.v6) {
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(v4), Ok(v6)) => Ok(!v4.addresses.is_empty() || !v6.addresses.is_empty()),
        });
        answer
    }

    /// The addresses of one family of an absolute name, from `/etc/hosts` or name servers, without the cache.
    ///
    /// # Errors
    /// No name server has an answer.
    pub async fn query_family(
        self: &Arc<Self>,
        host: &str,
        family: Family,
    ) -> Result<FamilyAddresses, LookupError> {
        let (name, resolver) = (host.to_owned(), Arc::clone(self));
        let work = async move {
            match resolver.route(&name).await? {
                Route::Known(addresses) => HostAnswer::without_ttl(&addresses).half(family),
                Route::NameServers(client) => client.family(&name, family).await,
            }
        };
        let answer = self.run(host, work).await;
        count(answer.as_ref().map(|found| !found.addresses.is_empty()));
        answer
    }

    /// The SRV records of a name, from name servers, without the cache.
    ///
    /// # Errors
    /// No name server has an answer.
    pub async fn query_services(self: &Arc<Self>, name: &str) -> Result<Services, LookupError> {
        let (owned, resolver) = (name.to_owned(), Arc::clone(self));
        let work = async move { resolver.name_servers().await?.services(&owned).await };
        let answer = self.run(name, work).await;
        count(answer.as_ref().map(|services| !services.records.is_empty()));
        answer
    }

    async fn route(&self, host: &str) -> Result<Route, LookupError> {
        let (listed, client) = self.files_and_client(host).await;
        match listed {
            listed if listed.is_empty() => client.map(Route::NameServers),
            listed => Ok(Route::Known(listed)),
        }
    }

    async fn name_servers(&self) -> Result<Arc<Client>, LookupError> {
        // A hosts file has no SRV records.
        self.files_and_client("").await.1
    }

    /// Runs a lookup on the thread of lookups, within their time limit.
    async fn run<T: Send + 'static>(
        &self,
        name: &str,
        work: impl Future<Output = Result<T, LookupError>> + Send + 'static,
    ) -> Result<T, LookupError> {
        let name = name.to_owned();
        let running = runtime()?.spawn(async move { bounded(&name, work).await });
        running.await.unwrap_or_else(|_| Err(LookupError::failed("the lookup panicked")))
    }
}

/// Counts a lookup that found records or none, or that failed.
fn count(outcome: Result<bool, &LookupError>) {
    metrics::global().lookups().done(match outcome {
        Ok(true) => LookupResult::Resolved,
        Ok(false) => LookupResult::NotFound,
        Err(error) => error.result(),
    });
}
