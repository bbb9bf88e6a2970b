//! Path of one WebSocket: `/api/v1/sockets/ID`, or `/api/v1/sockets/ID/close`.

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
