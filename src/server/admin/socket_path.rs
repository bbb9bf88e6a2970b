//! Path of one WebSocket: `/api/v1/sockets/ID`, or `/api/v1/sockets/ID/close` with the parameters of the close.

use super::query::Query;
use crate::tunnel::OperatorClose;

/// The code of a WebSocket that an operator closes without naming one: Service Restart, on which clients reconnect.
const DEFAULT_CLOSE_CODE: u16 = 1012;

/// A WebSocket, and whether it is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketPath {
    pub(super) id: u64,
    pub(super) closes: bool,
}

impl SocketPath {
    /// Parses a path; `None` for other paths.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/api/v1/sockets/")?;
        let (id, closes) = match rest.split_once('/') {
            None => (rest, false),
            Some((id, "close")) => (id, true),
            Some(_) => return None,
        };
        Some(Self { id: id.parse().ok()?, closes })
    }
}

/// The close that `code` and `reason` describe.
pub(super) fn operator_close(query: &Query) -> Result<OperatorClose, String> {
    let code = query.get("code").map_or(Ok(DEFAULT_CLOSE_CODE), |code| {
        // RFC 6455 §7.4: 1004 to 1006 and 1015 are never sent. Several client libraries take 1014 for a violation.
        let may_be_ordered = |code: &u16| matches!(code, 1000..=1003 | 1007..=1013 | 3000..=4999);
        code.parse().ok().filter(may_be_ordered).ok_or_else(|| {
            format!(
                "`{code}` is no close code to send; those are 1000 to 1003, 1007 to 1013 and 3000 to 4999"
            )
        })
    })?;
    let reason = query.get("reason").unwrap_or("closed by an operator");
    // A control frame has at most 125 bytes (RFC 6455 §5.5).
    if reason.len() > 123 {
        return Err("`reason` must have at most 123 bytes".to_owned());
    }
    Ok(OperatorClose { code, reason: reason.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_and_its_command_are_read() {
        let parse = |path: &str| SocketPath::parse(path).map(|path| (path.id, path.closes));
        assert_eq!(parse("/api/v1/sockets/7"), Some((7, false)));
        assert_eq!(parse("/api/v1/sockets/7/close"), Some((7, true)));
        for other in ["/api/v1/sockets/", "/api/v1/sockets/x", "/api/v1/sockets/7/", "/api/v1/sockets/7/open"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
