//! One certificate, from the account to the file: RFC 8555 §7 in the order in which it is gone through.

use super::account::{account, forgotten};
use super::certified_key::Keyed;
use super::failure::{Failure, Reason};
use super::job::Job;
use super::storage;
use crate::config::Challenge;
use crate::tls::{Challenges, Shown};
use instant_acme::{
    AuthorizationHandle, AuthorizationStatus, ChallengeHandle, ChallengeType, Error, Identifier, NewOrder,
    Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::time::Duration;

/// How long an authority may take to look at the proofs, and to issue.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(120));

fn rejected(detail: impl Into<String>) -> Failure {
    Failure { reason: Reason::Rejected, detail: detail.into() }
}

/// Gets a certificate, keeps it, and serves it.
///
/// # Errors
/// Why there is none.
pub(super) async fn issue(job: &Job) -> Result<(), Failure> {
    let settings = &job.settings;
    // An authority that has issued counts it, also when we cannot keep it.
    storage::run(settings, storage::prepare).await.map_err(|error| Failure::storage(&error))?;
    let unsaved = job.unsaved.lock().take();
    if let Some(pem) = unsaved {
        return keep(job, pem).await;
    }
    let account = account(settings).await?;
    let identifiers: Vec<_> = settings.names.iter().map(|name| Identifier::Dns(name.to_string())).collect();
    let order = account.new_order(&NewOrder::new(&identifiers)).await;
    let mut order = match order {
        Ok(order) => order,
        Err(error) => return Err(forgotten(error, settings).await),
    };
    let shown = prove(&mut order, settings.challenge, &job.challenges).await?;
    match order.poll_ready(&PATIENCE).await {
        Ok(OrderStatus::Ready) => {}
        // With one of the names something is wrong, and with which is not said here.
        Err(Error::Api(problem)) => {
            return Err(why_not(&mut order).await.unwrap_or(Error::Api(problem).into()));
        }
        Err(error) => return Err(error.into()),
        Ok(_) => return Err(why_not(&mut order).await.unwrap_or(rejected("the authority does not say why"))),
    }
    drop(shown);
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    let pem = key + &chain;
    let keyed = Keyed::read(pem.as_bytes()).map_err(|wrong| rejected(format!("what was issued: {wrong}")))?;
    if !keyed.covers(&settings.names) {
        return Err(rejected("what was issued is not for every name"));
    }
    // It is served before it is kept: a full disk is no reason to let the old one expire.
    job.renewed(keyed.key, keyed.validity);
    keep(job, pem).await
}

/// Keeps what was issued; what cannot be kept now is not asked for again, but kept later.
async fn keep(job: &Job, pem: String) -> Result<(), Failure> {
    // Noted before: the wait for the disk may be given up.
    *job.unsaved.lock() = Some(pem.clone());
    storage::run(&job.settings, move |settings| storage::keep(settings, &pem))
        .await
        .map_err(|error| Failure::storage(&error))?;
    *job.unsaved.lock() = None;
    Ok(())
}

/// Shows the proof of every name that is not proven yet, and asks the authority to look.
async fn prove(
    order: &mut Order,
    challenge: Challenge,
    challenges: &Arc<Challenges>,
) -> Result<Vec<Shown>, Failure> {
    let mut shown = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            // Proven for an order before this one.
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            _ => return Err(rejected("a name's authorization is no longer pending")),
        }
        let name = authorization.identifier().to_string();
        let kind = match challenge {
            Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Challenge::Http01 => ChallengeType::Http01,
        };
        let Some(mut asked) = authorization.challenge(kind) else {
            return Err(rejected(format!("the authority does not offer this challenge for {name}")));
        };
        shown.push(show(&asked, &name, challenge, challenges)?);
        asked.set_ready().await?;
    }
    Ok(shown)
}

fn show(
    asked: &ChallengeHandle<'_>,
    name: &str,
    challenge: Challenge,
    challenges: &Arc<Challenges>,
) -> Result<Shown, Failure> {
    let authorization = asked.key_authorization();
    match challenge {
        Challenge::Http01 => Ok(challenges.show_answer(&asked.token, authorization.as_str())),
        Challenge::TlsAlpn01 => {
            let proof = proof(name, authorization.digest().as_ref());
            let proof = proof.map_err(|error| rejected(format!("no proof can be made: {error}")))?;
            challenges.show_handshake(name, proof).map_err(|error| rejected(error.to_string()))
        }
    }
}

/// The certificate that proves a name (RFC 8737 §3): its own, with the digest in it.
fn proof(name: &str, digest: &[u8]) -> Result<Arc<CertifiedKey>, Box<dyn std::error::Error>> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = ring::sign::any_supported_type(&PrivatePkcs8KeyDer::from(key.serialize_der()).into())?;
    // Not by its checks: the extension is critical, and known to nobody but an authority.
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
}

/// What the authority saw in place of a proof, and of which name.
async fn why_not(order: &mut Order) -> Option<Failure> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if let Some(detail) = seen(&mut authorization).await {
            return Some(Failure { reason: Reason::Challenge, detail });
        }
    }
    None
}

async fn seen(authorization: &mut AuthorizationHandle<'_>) -> Option<String> {
    authorization.refresh().await.ok()?;
    let problem = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref())?;
    Some(format!("{}: {problem}", authorization.identifier()))
}

#[cfg(test)]
mod tests;
