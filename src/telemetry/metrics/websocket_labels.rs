//! Labels of WebSocket metrics: direction, opcode, side, initiator of the end, and the result of a reconnect.

macro_rules! labels {
    ($(#[$about:meta])+ $name:ident { $($(#[$each:meta])+ $variant:ident = $label:literal,)+ }) => {
        $(#[$about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$each])+ $variant,)+ }

        impl $name {
            /// Every value, in the order of its discriminants.
            pub const ALL: [Self; [$($label),+].len()] = [$(Self::$variant),+];

            /// As metrics and the access log show it.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }
    };
}

labels! {
    /// Which way a message goes.
    Direction {
        /// From the client.
        ToBackend = "to_backend",
        /// From the backend.
        ToClient = "to_client",
    }
}

labels! {
    /// What a message is: the opcode of its first frame (RFC 6455 §5.2).
    Opcode {
        /// A text message.
        Text = "text",
        /// A binary message.
        Binary = "binary",
        /// A Close frame.
        Close = "close",
        /// A Ping frame.
        Ping = "ping",
        /// A Pong frame.
        Pong = "pong",
        /// A reserved opcode, where the route passes invalid frames.
        Other = "other",
    }
}

labels! {
    /// One end of a WebSocket.
    Side {
        /// The client of the WebSocket.
        Client = "client",
        /// The backend of the WebSocket.
        Backend = "backend",
    }
}

labels! {
    /// The initiator of a WebSocket's end.
    InitiatorLabel {
        /// The client closed it or vanished.
        Client = "client",
        /// The backend closed it or vanished.
        Backend = "backend",
        /// The gateway: a limit, a drain, a dead peer.
        Gateway = "gateway",
    }
}

labels! {
    /// What became of a WebSocket whose endpoint was lost, on a route that keeps its clients.
    Reconnected {
        /// Another endpoint serves it.
        Moved = "moved",
        /// No endpoint took it in time.
        Failed = "failed",
        /// A message was cut in a way that no other endpoint could continue.
        Impossible = "impossible",
    }
}
