//! Account at a CA (RFC 8555 §7.3): created once, stored, and used for every later certificate.

use super::failure::{Failure, Reason};
use super::http_client::Client;
use super::settings::Settings;
use super::storage;
use instant_acme::{Account, AccountCredentials, Error, ExternalAccountKey, NewAccount};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A stored account.
#[derive(Serialize, Deserialize)]
struct StoredAccount {
    contact: Vec<String>,
    credentials: AccountCredentials,
}

/// The stored account, if any.
pub(super) async fn known(settings: &Arc<Settings>) -> Result<Option<Account>, Failure> {
    let Some(StoredAccount { credentials, .. }) = kept(settings).await? else { return Ok(None) };
    let client = client(settings).await?;
    Ok(Some(Account::builder_with_http(client).from_credentials(credentials).await?))
}

async fn kept(settings: &Arc<Settings>) -> Result<Option<StoredAccount>, Failure> {
    let load = |settings: &Settings| storage::load_json::<StoredAccount>(&storage::account(settings));
    storage::run(settings, load).await.map_err(|error| Failure::storage(&error))
}

async fn keep(settings: &Arc<Settings>, account: StoredAccount) -> Result<(), Failure> {
    let keep = move |settings: &Settings| storage::keep_json(&storage::account(settings), &account);
    storage::run(settings, keep).await.map_err(|error| Failure::storage(&error))
}

async fn client(settings: &Arc<Settings>) -> Result<Box<Client>, Failure> {
    // Without roots, the client reads those of the system.
    let new = |settings: &Settings| Ok(Client::new(settings.roots.as_deref()));
    let client = storage::run(settings, new).await.map_err(|error| Failure::storage(&error))?;
    Ok(Box::new(client.map_err(|why| Error::Other(Box::new(why)))?))
}

/// The stored account, or a new one.
pub(super) async fn account(settings: &Arc<Settings>) -> Result<Account, Failure> {
    let contact: Vec<_> = settings.email.iter().map(String::as_str).collect();
    let Some(kept) = kept(settings).await? else {
        let new =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let external = settings.external.as_ref().map(|(id, key)| ExternalAccountKey::new(id.clone(), key));
        let (account, credentials) = Account::builder_with_http(client(settings).await?)
            .create(&new, settings.directory.clone(), external.as_ref())
            .await
            .map_err(account_failed)?;
        let kept = StoredAccount { contact: settings.email.clone(), credentials };
        keep(settings, kept).await?;
        return Ok(account);
    };
    let StoredAccount { contact: sent_contact, credentials } = kept;
    // The credentials cannot be cloned, so a copy is deserialized to store the new contact.
    let again = serde_json::to_value(&credentials).map_err(Error::from)?;
    let account = Account::builder_with_http(client(settings).await?).from_credentials(credentials).await?;
    if sent_contact != settings.email {
        if let Err(error) = account.update_contacts(&contact).await {
            return Err(forgotten(error, settings).await);
        }
        let credentials = serde_json::from_value(again).map_err(Error::from)?;
        let kept = StoredAccount { contact: settings.email.clone(), credentials };
        keep(settings, kept).await?;
    }
    Ok(account)
}

/// The failure of a refused new account, with `Account` for any error of the CA.
fn account_failed(error: Error) -> Failure {
    let failure = Failure::from(error);
    match failure.reason {
        Reason::Rejected | Reason::Challenge => Failure { reason: Reason::Account, ..failure },
        _ => failure,
    }
}

/// Moves an account that the CA no longer knows aside, so that the next attempt creates a new one.
pub(super) async fn forgotten(error: Error, settings: &Arc<Settings>) -> Failure {
    if let Error::Api(problem) = &error
        && problem.r#type.as_deref().is_some_and(|kind| kind.ends_with(":accountDoesNotExist"))
    {
        let put_aside = |settings: &Settings| {
            let path = storage::account(settings);
            std::fs::rename(&path, path.with_extension("json.unknown"))
        };
        if let Err(error) = storage::run(settings, put_aside).await {
            log::warn!(file:? = storage::account(settings), error:%; "ACME account file not renamed");
        }
    }
    error.into()
}
