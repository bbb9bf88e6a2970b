//! User and password of a server that settings name.

use crate::{Placed, Problem, Problems, Settings};
use std::fmt;

/// The largest file of a password, in bytes.
const LARGEST: u64 = 1 << 20;

/// User and password, if the server requires them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
}

/// Without the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Those of the keys `user`, `password` and `password_file`. The file is read, without the line break at its end.
    pub fn read(
        settings: &Settings,
        [user, password, file]: [&Option<Placed<String>>; 3],
        problems: &mut Problems,
    ) -> Self {
        if let (Some(_), Some(file)) = (password, file) {
            let problem = Problem::new("`password` and `password_file` exclude each other");
            problems.push(problem.help("remove one of them").at(&file.place));
        }
        if let (Some(user), None, None) = (user, password, file) {
            problems.push(Problem::new("`user` needs `password` or `password_file`").at(&user.place));
        }
        let from_file = file.as_ref().and_then(|path| {
            let record = problems.keep(settings.file(path, LARGEST).map_err(Problems::from))?;
            match std::str::from_utf8(&record.bytes) {
                Ok(text) => Some(text.strip_suffix('\n').unwrap_or(text).trim_end_matches('\r').to_owned()),
                Err(_) => {
                    problems.push(Problem::new(format!("`{}` is not text", path.value)).at(&path.place));
                    None
                }
            }
        });
        let password = password.as_ref().map(|password| password.value.clone()).or(from_file);
        Self { user: user.as_ref().map(|user| user.value.clone()), password }
    }
}
