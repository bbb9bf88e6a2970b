//! Options that name the gateway of a command: its configuration file, or its admin address and token.

use super::{AdminAddress, AdminClient, CALL};
use crate::cli::command_error::CommandError;
use crate::cli::{BAD_CONFIG, File, color};
use crate::config::{self, Config, Loaded, Refused};
use crate::diagnostics;
use http::HeaderValue;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

/// Environment variable with the admin token.
const TOKEN_VARIABLE: &str = "MOONGATE_ADMIN_TOKEN";

#[derive(clap::Args)]
pub(in crate::cli) struct AdminArguments {
    #[command(flatten)]
    pub(in crate::cli) file: File,
    /// Admin address of the gateway, as `HOST:PORT` [default: that of the configuration file]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<AdminAddress>,
    /// File with the admin token [default: `MOONGATE_ADMIN_TOKEN`, or the token of the configuration file]
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    token_file: Option<PathBuf>,
}

impl AdminArguments {
    /// Those of a command that has no option for a token.
    pub(in crate::cli) fn new(file: File, admin: Option<AdminAddress>) -> Self {
        Self { file, admin, token_file: None }
    }

    /// The client for that gateway. A file system may hang: the configuration is read within `limit`.
    pub(in crate::cli) fn client(&self, limit: Duration) -> Result<AdminClient, CommandError> {
        let (address, token_of_file) = match &self.admin {
            // The default file may be that of another gateway, so its token is not sent there.
            Some(address) if self.file.config.is_none() => (address.clone(), None),
            Some(address) => {
                let token = self.admin_of_file(limit)?.and_then(|(_, token)| token);
                (address.clone(), token)
            }
            None => self.admin_of_file(limit)?.ok_or_else(|| self.no_admin_address())?,
        };
        let token = match (&self.token_file, std::env::var_os(TOKEN_VARIABLE)) {
            (Some(file), _) => Some(read_token(file)?),
            (None, Some(token)) if !token.is_empty() => Some(token.to_string_lossy().into_owned()),
            (None, _) => token_of_file,
        };
        let token = token.map(|token| authorization(&token)).transpose()?;
        Ok(AdminClient::new(address, token))
    }

    /// Runs a command with that client, and reports its failure.
    pub(in crate::cli) fn run<F>(&self, command: impl FnOnce(AdminClient) -> F) -> ExitCode
    where
        F: Future<Output = Result<ExitCode, CommandError>>,
    {
        match self.client(CALL) {
            Ok(client) => super::run(command(client)),
            Err(error) => error.print(),
        }
    }

    /// The configuration file that is read, unless `--admin` replaces it.
    pub(in crate::cli) fn path(&self) -> Option<&Path> {
        (self.admin.is_none() || self.file.config.is_some()).then(|| self.file.path())
    }

    /// The admin address and the token of the file.
    fn admin_of_file(&self, limit: Duration) -> Result<Option<(AdminAddress, Option<String>)>, CommandError> {
        let path = self.file.path();
        let Some(loaded) = load(path, limit) else {
            return Err(CommandError::failed(format!(
                "reading {} took longer than {limit:?}",
                path.display()
            )));
        };
        let spec = spec(loaded).map_err(|refused| {
            let report = diagnostics::render(&refused.problems, &refused.sources, color());
            CommandError::report(report, BAD_CONFIG)
        })?;
        let Some(admin) = spec.admin else { return Ok(None) };
        let address = admin.value.address.value.parse().map_err(CommandError::failed)?;
        Ok(Some((address, admin.value.token.map(|token| token.value))))
    }

    fn no_admin_address(&self) -> CommandError {
        CommandError::failed(format!("{} has no admin address", self.file.path().display())).help(
            "add `admin: { address: 127.0.0.1:9901 }` and send SIGHUP to the gateway; `--admin` names one elsewhere",
        )
    }
}

/// An invalid file is enough, if its admin address can be read: the running gateway has an earlier one.
fn spec(loaded: Result<Loaded, Refused>) -> Result<Config, Refused> {
    match loaded {
        Ok(loaded) => Ok(loaded.spec),
        Err(Refused { rest: Some(rest), .. }) if rest.admin.is_some() => Ok(*rest),
        Err(refused) => Err(refused),
    }
}

/// Reads the file on a separate thread, which is abandoned after the limit.
fn load(path: &Path, limit: Duration) -> Option<Result<Loaded, Refused>> {
    let (result, loaded) = mpsc::channel();
    let path = path.to_owned();
    let work = move || {
        // The receiver is gone after the limit.
        let _ = result.send(config::load(&path));
    };
    std::thread::Builder::new().name("load".to_owned()).spawn(work).ok()?;
    loaded.recv_timeout(limit).ok()
}

/// The token in a file, without the line feed at its end.
fn read_token(file: &Path) -> Result<String, CommandError> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        CommandError::failed(format!("the admin token cannot be read from {}: {error}", file.display()))
    })?;
    match text.trim() {
        "" => Err(CommandError::failed(format!("{} has no admin token", file.display()))),
        token => Ok(token.to_owned()),
    }
}

pub(super) fn authorization(token: &str) -> Result<HeaderValue, CommandError> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
        CommandError::failed("the admin token has a character that a header field cannot contain")
    })?;
    value.set_sensitive(true);
    Ok(value)
}
